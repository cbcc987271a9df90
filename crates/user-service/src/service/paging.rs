//! Pages of a list: where one begins, and how long it is (AIP-158).

use proto::user::v1::ListUsersRequest;
use tonic::Status;
use tonic_types::FieldViolation;

use super::{page_token::PageTokens, status::bad_request, validate::is_part_of_id};

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
    /// The page that a request asks for, by a token of these.
    pub(super) fn asked(request: &ListUsersRequest, tokens: &PageTokens) -> Result<Self, Status> {
        let refused = |field: &str, rule: &str| bad_request(vec![FieldViolation::new(field, rule)]);
        let size = match u32::try_from(request.page_size) {
            Ok(0) => USUAL_SIZE,
            Ok(size) => size.min(LARGEST_SIZE),
            Err(_) => return Err(refused("page_size", "it is not negative")),
        };
        let prefix = prefix_in(&request.filter).ok_or_else(|| {
            refused("filter", "it is empty or name = \"users/PREFIX*\", with a prefix of lower-case letters, digits and hyphens")
        })?;
        let after = match request.page_token.as_str() {
            "" => String::new(),
            token => tokens.open(token, prefix).ok_or_else(|| {
                refused(
                    "page_token",
                    "it is the next_page_token of a list with the same filter, or empty",
                )
            })?,
        };
        Ok(Self {
            size,
            after,
            prefix: prefix.to_owned(),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> PageTokens {
        PageTokens::new(b"secret").expect("a key")
    }

    fn asked(page_size: i32, page_token: &str, filter: &str) -> Result<Page, Status> {
        let request = ListUsersRequest {
            page_size,
            page_token: page_token.to_owned(),
            filter: filter.to_owned(),
        };
        Page::asked(&request, &tokens())
    }

    #[test]
    fn a_size_is_bounded() {
        for (size, given) in [(0, 50), (1, 1), (1_000, 1_000), (i32::MAX, 1_000)] {
            assert_eq!(asked(size, "", "").expect("a page").size, given);
        }
        assert!(asked(-1, "", "").is_err());
    }

    #[test]
    fn a_filter_is_a_prefix_of_the_name() {
        for (filter, prefix) in [
            ("", ""),
            ("name = \"users/an*\"", "an"),
            (" name=\"users/*\" ", ""),
        ] {
            assert_eq!(asked(0, "", filter).expect(filter).prefix, prefix);
        }
        for filter in [
            "an",
            "name = \"users/an\"",
            "email = \"a*\"",
            "name = \"users/A*\"",
            "name = \"users/a*b*\"",
        ] {
            assert!(asked(0, "", filter).is_err(), "{filter}");
        }
    }

    #[test]
    fn a_token_leads_on_and_only_with_its_own_filter() {
        let filter = "name = \"users/an*\"";
        let token = tokens().seal("anna", "an").expect("sealed");
        let next = asked(0, &token, filter).expect("the next page");
        assert_eq!(next.after, "anna");
        for (token, filter) in [(&*token, ""), ("anna", filter), ("____", filter)] {
            let refused = asked(0, token, filter).expect_err(token);
            assert!(refused.message().starts_with("page_token: "), "{refused}");
        }
    }
}
