//! Etags: another one after each change, and never twice the same, whatever happens to a user.

use uuid::Uuid;

/// One that no user has had yet: 32 lower-case hexadecimal digits.
pub(crate) fn another() -> String {
    Uuid::new_v4().simple().to_string()
}

/// Whether a user could have it, or it is none. Whatever else a caller sends is nobody's, and is not for a database to read.
pub(super) fn may_match(etag: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    etag.is_empty() || (etag.len() == 32 && etag.bytes().all(is_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_another_and_can_be_a_users() {
        let (one, other) = (another(), another());
        assert_ne!(one, other);
        assert!(may_match(&one) && may_match(&other) && may_match(""));
        for nobodys in [
            "\0",
            &one[1..],
            &one.replace(&one[..1], "g"),
            &(one.clone() + "0"),
        ] {
            assert!(!may_match(nobodys), "{nobodys:?}");
        }
    }
}
