//! Pages of a list: where one begins, and the token that says where the next does (AIP-158).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use proto::user::v1::ListUsersRequest;
use tonic::Status;
use tonic_types::FieldViolation;

use super::{status::bad_request, validate::is_part_of_id};

const USUAL_SIZE: u32 = 50;
const LARGEST_SIZE: u32 = 1_000;

/// What a page has: `size` users at most, with ids above `after` that begin with `prefix`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) size: u32,
    pub(super) after: String,
    pub(super) prefix: String,
}

impl Page {
    /// The page that a request asks for.
    pub(super) fn asked(request: &ListUsersRequest) -> Result<Self, Status> {
        let refused = |field: &str, rule: &str| bad_request(vec![FieldViolation::new(field, rule)]);
        let size = match u32::try_from(request.page_size) {
            Ok(0) => USUAL_SIZE,
            Ok(size) => size.min(LARGEST_SIZE),
            Err(_) => return Err(refused("page_size", "it is not negative")),
        };
        let prefix = prefix_in(&request.filter).ok_or_else(|| {
            refused("filter", "it is empty or name = \"users/PREFIX*\", with a prefix of lower-case letters, digits and hyphens")
        })?;
        let after = after_in(&request.page_token, prefix).ok_or_else(|| {
            refused(
                "page_token",
                "it is the next_page_token of a list with the same filter, or empty",
            )
        })?;
        Ok(Self {
            size,
            after,
            prefix: prefix.to_owned(),
        })
    }

    /// The token of the page that begins above `last`.
    pub(super) fn token_after(&self, last: &str) -> String {
        BASE64.encode(format!("{}\n{last}", self.prefix))
    }
}

/// The prefix in `name = "users/PREFIX*"`, with any blanks around its parts.
fn prefix_in(filter: &str) -> Option<&str> {
    let filter = filter.trim();
    if filter.is_empty() {
        return Some("");
    }
    let pattern = filter
        .strip_prefix("name")?
        .trim_start()
        .strip_prefix('=')?
        .trim_start();
    let prefix = pattern.strip_prefix("\"users/")?.strip_suffix("*\"")?;
    is_part_of_id(prefix).then_some(prefix)
}

/// The id in a token that was given with the same prefix.
fn after_in(token: &str, prefix: &str) -> Option<String> {
    if token.is_empty() {
        return Some(String::new());
    }
    let text = String::from_utf8(BASE64.decode(token).ok()?).ok()?;
    let (its_prefix, after) = text.split_once('\n')?;
    (its_prefix == prefix && is_part_of_id(after)).then(|| after.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(page_size: i32, page_token: &str, filter: &str) -> ListUsersRequest {
        ListUsersRequest {
            page_size,
            page_token: page_token.to_owned(),
            filter: filter.to_owned(),
        }
    }

    #[test]
    fn a_size_is_bounded() {
        for (asked, given) in [(0, 50), (1, 1), (1_000, 1_000), (i32::MAX, 1_000)] {
            assert_eq!(
                Page::asked(&request(asked, "", "")).expect("a page").size,
                given
            );
        }
        assert!(Page::asked(&request(-1, "", "")).is_err());
    }

    #[test]
    fn a_filter_is_a_prefix_of_the_name() {
        for (filter, prefix) in [
            ("", ""),
            ("name = \"users/an*\"", "an"),
            (" name=\"users/*\" ", ""),
        ] {
            assert_eq!(
                Page::asked(&request(0, "", filter)).expect(filter).prefix,
                prefix
            );
        }
        for filter in [
            "an",
            "name = \"users/an\"",
            "email = \"a*\"",
            "name = \"users/A*\"",
            "name = \"users/a*b*\"",
        ] {
            assert!(Page::asked(&request(0, "", filter)).is_err(), "{filter}");
        }
    }

    #[test]
    fn a_token_leads_on_and_only_with_its_own_filter() {
        let filter = "name = \"users/an*\"";
        let token = Page::asked(&request(0, "", filter))
            .expect("a page")
            .token_after("anna");
        assert!(!token.contains("anna"), "{token}");
        let next = Page::asked(&request(0, &token, filter)).expect("the next page");
        assert_eq!(next.after, "anna");
        assert!(Page::asked(&request(0, &token, "")).is_err());
        for token in [
            "anna",
            "*",
            "____",
            &BASE64.encode("an\n'; DROP TABLE users"),
        ] {
            assert!(Page::asked(&request(0, token, filter)).is_err(), "{token}");
        }
    }
}
