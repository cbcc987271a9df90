//! What a server tells at the end of a call, checked and made fit for whoever reads it.

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose},
};
use http::{HeaderMap, HeaderValue};
use percent_encoding::percent_decode;

use super::{Code, GRPC_MESSAGE, GRPC_STATUS, Status, details::STATUS_DETAILS, encoded};

/// gRPC sends binary values without padding and takes them with it (grpc/grpc `doc/PROTOCOL-HTTP2.md`).
pub(crate) const BINARY: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

impl Status {
    /// The code that trailers tell, or the headers of a response that is nothing else; an error when they tell none, or what
    /// makes no sense.
    ///
    /// tonic panics at details that are not base64, and takes a message that is no text for another code: neither reaches
    /// it.
    pub(crate) fn told(peer: &str, headers: &mut HeaderMap) -> Result<Code, Self> {
        let mut all = headers.get_all(GRPC_STATUS).iter();
        let value = all.next().ok_or_else(|| Self::untold(peer))?;
        let code = Self::told_by(peer, value)?;
        if let Some(other) = all.find(|other| *other != value) {
            let problem = format!("grpc-status is {value:?} and {other:?}");
            return Err(rubbish(peer, &problem));
        }
        mend_message(headers);
        mend_details(headers).map_err(|error| {
            let problem = format!("{STATUS_DETAILS} is not base64: {error}");
            rubbish(peer, &problem)
        })?;
        Ok(code)
    }
}

fn rubbish(peer: &str, problem: &str) -> Status {
    Status::new(Code::Internal, format!("{peer}: {problem}"))
}

/// What is no UTF-8 in a message is replaced: it never costs the status (grpc/grpc `doc/PROTOCOL-HTTP2.md`).
fn mend_message(headers: &mut HeaderMap) {
    let Some(message) = headers.get(GRPC_MESSAGE) else {
        return;
    };
    let decoded = percent_decode(message.as_bytes());
    if decoded.clone().decode_utf8().is_err()
        && let Some(mended) = encoded(&decoded.decode_utf8_lossy())
    {
        headers.insert(GRPC_MESSAGE, mended);
    }
}

/// Details are written as everybody reads them.
fn mend_details(headers: &mut HeaderMap) -> Result<(), base64::DecodeError> {
    let Some(details) = headers.get(STATUS_DETAILS) else {
        return Ok(());
    };
    let details = BINARY.decode(details.as_bytes())?;
    let text = general_purpose::STANDARD_NO_PAD.encode(details);
    let value = HeaderValue::try_from(text).expect("base64 is ASCII");
    headers.insert(STATUS_DETAILS, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{
        Code, Engine, GRPC_MESSAGE, GRPC_STATUS, HeaderMap, HeaderValue, STATUS_DETAILS, Status,
        general_purpose::STANDARD_NO_PAD,
    };

    fn value() -> impl Strategy<Value = HeaderValue> {
        let text = vec(0x20..0xff_u8, 0..12).prop_filter("no DEL", |text| !text.contains(&0x7f));
        text.prop_map(|text| HeaderValue::from_bytes(&text).expect("a value"))
    }

    proptest! {
        #[test]
        fn whatever_is_told_is_refused_or_can_be_read(
            code in 0..20_u16,
            message in value(),
            details in value(),
        ) {
            let mut told = HeaderMap::new();
            told.insert(GRPC_STATUS, code.into());
            told.insert(GRPC_MESSAGE, message);
            told.insert(STATUS_DETAILS, details);
            if let Ok(read) = Status::told("peer", &mut told) {
                prop_assert_eq!(read, Code::from_number(code.into()));
                let message = percent_encoding::percent_decode(told[GRPC_MESSAGE].as_bytes());
                prop_assert!(message.decode_utf8().is_ok());
                prop_assert!(STANDARD_NO_PAD.decode(&told[STATUS_DETAILS]).is_ok());
            }
        }
    }

    #[test]
    fn details_may_be_padded_and_need_not_be_as_short_as_they_could() {
        for (written, read) in [("YQ==", "YQ"), ("YQ", "YQ"), ("YR", "YQ"), ("", "")] {
            let value = HeaderValue::from_static(written);
            let name = STATUS_DETAILS.parse().expect("a name");
            let mut told = HeaderMap::from_iter([(name, value), (GRPC_STATUS, 5.into())]);
            assert_eq!(Status::told("peer", &mut told), Ok(Code::NotFound));
            assert_eq!(told[STATUS_DETAILS], read);
        }
    }
}
