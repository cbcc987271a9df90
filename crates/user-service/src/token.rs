//! Tokens: JSON Web Tokens (RFC 7519), signed with HMAC-SHA256 (HS256 of RFC 7518) by the key that the storage keeps.
//!
//! They are only written here, and never read: what a token claims is decided by who made it.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::hmac;
use serde_json::json;

/// A token, and when it ends in seconds since 1970.
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) expires: i64,
}

/// A token that says until `ttl` from `now` (seconds since 1970) that its bearer is `subject`.
pub(crate) fn sign(key: &[u8], subject: &str, now: i64, ttl: Duration) -> Token {
    let expires = now.saturating_add_unsigned(ttl.as_secs());
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let claims = json!({"sub": subject, "iat": now, "exp": expires});
    let [header, claims] = [header, claims].map(|part| BASE64.encode(part.to_string()));
    let signed = format!("{header}.{claims}");
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), signed.as_bytes());
    Token {
        text: format!("{signed}.{}", BASE64.encode(signature)),
        expires,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_token_says_whose_it_is_and_until_when_and_is_signed() {
        let token = sign(b"key", "users/ann", 1_000, Duration::from_mins(1));
        let parts: Vec<_> = token.text.split('.').collect();
        let [header, claims, signature] = parts[..] else {
            panic!("{} parts", parts.len())
        };
        let read = |part: &str| -> Value {
            serde_json::from_slice(&BASE64.decode(part).expect("base64")).expect("JSON")
        };
        assert_eq!(read(header), json!({"alg": "HS256", "typ": "JWT"}));
        assert_eq!(
            read(claims),
            json!({"sub": "users/ann", "iat": 1_000, "exp": 1_060})
        );
        assert_eq!(token.expires, 1_060);
        let signature = BASE64.decode(signature).expect("base64");
        let is_signed_with = |key: &[u8]| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key);
            hmac::verify(&key, format!("{header}.{claims}").as_bytes(), &signature).is_ok()
        };
        assert!(is_signed_with(b"key") && !is_signed_with(b"another"));
    }
}
