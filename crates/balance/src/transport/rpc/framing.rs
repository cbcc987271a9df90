//! gRPC's length-prefixed messages (grpc/grpc `doc/PROTOCOL-HTTP2.md`).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::status::{Code, Status};

/// One byte that says whether the message is compressed, four that say how long it is.
const PREFIX: usize = 5;
/// What gRPC takes by default.
const LONGEST: usize = 4 << 20;

/// Cuts what comes into messages. It holds at most one message that is not whole, and what came with its end.
#[derive(Debug, Default)]
pub(super) struct Framing(BytesMut);

impl Framing {
    pub(super) fn push(&mut self, data: &[u8]) {
        self.0.extend_from_slice(data);
    }

    /// The next message that is whole. An error is final: where the message after it begins is not known.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let Some((prefix, _)) = self.0.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let [compressed, length @ ..] = *prefix;
        if compressed != 0 {
            // We have named no encoding that we could read.
            return Err(Status::new(
                Code::Internal,
                format!("a message with the compressed flag {compressed}; none was asked for"),
            ));
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > LONGEST {
            return Err(Status::new(
                Code::ResourceExhausted,
                format!("a message of {length} bytes; at most {LONGEST} are taken"),
            ));
        }
        if self.0.len() - PREFIX < length {
            return Ok(None);
        }
        self.0.advance(PREFIX);
        Ok(Some(self.0.split_to(length).freeze()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A message as it is sent.
pub(super) fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut framed = BytesMut::with_capacity(PREFIX + length);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(length).expect("our own requests are short"));
    message.encode(&mut framed).expect("there is room");
    framed.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{Code, Framing, LONGEST};

    fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            bytes.push(0);
            bytes.extend(u32::try_from(message.len()).expect("short").to_be_bytes());
            bytes.extend(message);
        }
        bytes
    }

    proptest! {
        #[test]
        fn messages_come_whole_however_they_are_cut(
            messages in vec(vec(any::<u8>(), 0..40), 0..8),
            piece in 1..50_usize,
        ) {
            let mut framing = Framing::default();
            let mut read = Vec::new();
            for piece in framed(&messages).chunks(piece) {
                framing.push(piece);
                while let Some(message) = framing.next().expect("well formed") {
                    read.push(message.to_vec());
                }
            }
            prop_assert_eq!(read, messages);
            prop_assert!(framing.is_empty());
        }

        #[test]
        fn rubbish_is_refused_or_waited_for_and_never_panics(bytes in vec(any::<u8>(), 0..200)) {
            let mut framing = Framing::default();
            framing.push(&bytes);
            while let Ok(Some(_)) = framing.next() {}
        }
    }

    #[test]
    fn a_compressed_message_and_a_flag_that_is_none_are_refused() {
        for flag in [1, 2, 255] {
            let mut framing = Framing::default();
            framing.push(&[flag, 0, 0, 0, 0]);
            let refused = framing.next().expect_err("nothing was to be compressed");
            assert_eq!(refused.code, Code::Internal);
            assert!(refused.message.contains(&flag.to_string()), "{refused:?}");
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_before_it_comes() {
        let prefix = |length: usize| {
            let length = u32::try_from(length).expect("four bytes").to_be_bytes();
            [&[0], &length[..]].concat()
        };
        let mut framing = Framing::default();
        framing.push(&prefix(LONGEST));
        assert_eq!(framing.next(), Ok(None), "just as long as may be");
        let mut framing = Framing::default();
        framing.push(&prefix(LONGEST + 1));
        let refused = framing.next().expect_err("too long");
        assert_eq!(refused.code, Code::ResourceExhausted);
    }
}
