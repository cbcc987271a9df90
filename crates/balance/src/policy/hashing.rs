//! What the policies that send equal keys to the same endpoint have in common: the hash of a call, and where it falls.

pub(super) mod bound;
pub(super) mod kept;
pub(super) mod picker;
pub(super) mod ring;
pub(super) mod table;

use std::hash::Hasher;

use http::HeaderName;
use serde::{Deserialize, Deserializer, de::Error as _};
use twox_hash::XxHash64;

use super::CallInfo;

/// gRFC A42's hash function: `XXH64` with seed 0.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    seeded_hash(bytes, 0)
}

/// `XXH64` with another seed.
pub(super) fn seeded_hash(bytes: &[u8], seed: u64) -> u64 {
    XxHash64::oneshot(seed, bytes)
}

/// What of a call is hashed (gRFC A76, `requestHashHeader`): a header's values. The call's own hash key wins over it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RequestHash {
    header: Option<HeaderName>,
}

impl RequestHash {
    /// The hash of a call; `None` where there is nothing to hash, and a random one is to be taken.
    pub(crate) fn of(&self, call: &CallInfo<'_>) -> Option<u64> {
        if let Some(key) = call.hash_key() {
            return Some(key.0);
        }
        let mut values = call.headers().get_all(self.header.as_ref()?).iter();
        let first = values.next()?.as_bytes();
        let Some(second) = values.next() else {
            return (!first.is_empty()).then(|| hash(first));
        };
        // Several values count as one, joined by commas.
        let mut joined = XxHash64::with_seed(0);
        joined.write(first);
        for value in std::iter::once(second).chain(values) {
            joined.write(b",");
            joined.write(value.as_bytes());
        }
        Some(joined.finish())
    }
}

impl<'de> Deserialize<'de> for RequestHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if name.is_empty() {
            return Ok(Self::default());
        }
        let refused = |problem| D::Error::custom(format!("{name:?} {problem}"));
        if name.to_ascii_lowercase().ends_with("-bin") {
            return Err(refused(
                "is a binary header, which is not hashed; take one that does not end in -bin",
            ));
        }
        let header = HeaderName::try_from(&name).map_err(|_| refused("is no name of a header"))?;
        Ok(Self {
            header: Some(header),
        })
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use serde_json::json;

    use super::{CallInfo, RequestHash, hash};
    use crate::options::HashKey;

    fn by_user() -> RequestHash {
        serde_json::from_value(json!("X-User")).expect("a header")
    }

    fn headers(users: &[&'static str]) -> HeaderMap {
        users
            .iter()
            .map(|user| {
                (
                    http::HeaderName::from_static("x-user"),
                    HeaderValue::from_static(user),
                )
            })
            .collect()
    }

    #[test]
    fn a_header_is_hashed_as_a76_says() {
        let of = |users: &[&'static str]| by_user().of(&CallInfo::new("/a.B/C", &headers(users)));
        assert_eq!(of(&["ann"]), Some(hash(b"ann")));
        assert_eq!(of(&["ann", "bob", "cy"]), Some(hash(b"ann,bob,cy")));
        assert_eq!(of(&[""]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn the_calls_own_key_wins_over_the_header() {
        let headers = headers(&["ann"]);
        let call = CallInfo::new("/a.B/C", &headers).with_hash_key(HashKey(7));
        assert_eq!(by_user().of(&call), Some(7));
        assert_eq!(
            RequestHash::default().of(&CallInfo::new("/a.B/C", &headers)),
            None
        );
    }

    #[test]
    fn what_cannot_be_hashed_is_refused() {
        for name in ["user-bin", "User-BIN", "no header", "ü"] {
            let refused = serde_json::from_value::<RequestHash>(json!(name))
                .expect_err(name)
                .to_string();
            assert!(refused.contains(name), "{refused}");
        }
        assert_eq!(
            serde_json::from_value::<RequestHash>(json!("")).expect("none"),
            RequestHash::default()
        );
    }

    #[test]
    fn the_hash_is_xxh64_with_seed_zero() {
        // From the xxHash specification's reference implementation.
        assert_eq!(hash(b""), 0xEF46_DB37_51D8_E999);
        assert_eq!(hash(b"a"), 0xD24E_C4F1_A98C_6E5B);
        assert_eq!(hash(b"abc"), 0x44BC_2CF5_AD77_0999);
    }
}
