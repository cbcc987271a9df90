//! The tokens that say where a page begins: sealed, so that nobody reads them, or makes one (AIP-158).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    error::Unspecified,
    hkdf::{HKDF_SHA256, Salt},
    rand::{SecureRandom, SystemRandom},
};

/// What tells this key from any other that is made of the same secret.
const PURPOSE: &[u8] = b"user.v1.UserService page tokens";

/// Seals and opens tokens. Whoever has the same secret makes the same one.
pub(super) struct PageTokens(LessSafeKey);

impl PageTokens {
    /// By a key of its own, which is derived from what all instances on a storage share.
    pub(super) fn new(secret: &[u8]) -> Result<Self, Unspecified> {
        let derived = Salt::new(HKDF_SHA256, &[]).extract(secret);
        let key = UnboundKey::from(derived.expand(&[PURPOSE], &CHACHA20_POLY1305)?);
        Ok(Self(LessSafeKey::new(key)))
    }

    /// The token of the page that begins above the id `last`, of those that begin with `prefix`.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub(super) fn seal(&self, last: &str, prefix: &str) -> Result<String, Unspecified> {
        let mut token = vec![0; NONCE_LEN];
        SystemRandom::new().fill(&mut token)?;
        let nonce = Nonce::try_assume_unique_for_key(&token)?;
        let mut text = last.as_bytes().to_vec();
        self.0
            .seal_in_place_append_tag(nonce, Aad::from(prefix), &mut text)?;
        token.append(&mut text);
        Ok(BASE64.encode(token))
    }

    /// The id in a token that was sealed here, or by who has the same secret, with the same prefix.
    pub(super) fn open(&self, token: &str, prefix: &str) -> Option<String> {
        let mut token = BASE64.decode(token).ok()?;
        let (nonce, text) = token.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let last = self.0.open_in_place(nonce, Aad::from(prefix), text).ok()?;
        String::from_utf8(last.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(secret: &[u8]) -> PageTokens {
        PageTokens::new(secret).expect("a key")
    }

    #[test]
    fn a_token_is_opened_by_whoever_has_the_secret_and_read_by_nobody_else() {
        let token = tokens(b"secret").seal("anna", "an").expect("sealed");
        let bytes = BASE64.decode(&token).expect("base64");
        assert!(!bytes.windows(4).any(|part| part == b"anna"), "{bytes:?}");
        assert_eq!(
            tokens(b"secret").open(&token, "an").as_deref(),
            Some("anna")
        );
        assert_eq!(tokens(b"another").open(&token, "an"), None);
        let again = tokens(b"secret").seal("anna", "an").expect("sealed");
        assert_ne!(token, again, "nobody can tell that it is the same page");
    }

    #[test]
    fn a_token_that_is_not_as_it_was_given_is_none() {
        let tokens = tokens(b"secret");
        let token = tokens.seal("anna", "an").expect("sealed");
        assert_eq!(tokens.open(&token, ""), None, "it is of another filter");
        let bytes = BASE64.decode(&token).expect("base64");
        for index in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[index] ^= 1;
            assert_eq!(tokens.open(&BASE64.encode(altered), "an"), None, "{index}");
            let short = &bytes[..index];
            assert_eq!(tokens.open(&BASE64.encode(short), "an"), None, "{index}");
        }
        for made_up in ["", "*", "anna", &BASE64.encode("an\nanna")] {
            assert_eq!(tokens.open(made_up, "an"), None, "{made_up}");
        }
    }
}
