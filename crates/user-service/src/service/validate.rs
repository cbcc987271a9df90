//! What a request may be. Each function looks at all of its request before it refuses, and names each field by its path.

use email_address::EmailAddress;
use proto::user::v1::{CreateUserRequest, UpdateUserRequest};
use tonic::Status;
use tonic_types::FieldViolation;
use uuid::Uuid;

use super::status::bad_request;

/// What every name begins with.
pub(super) const COLLECTION: &str = "users/";

const LONGEST_ID: usize = 63;
const LONGEST_DISPLAY_NAME: usize = 100;
/// A path in SMTP is 256 bytes at most, with its brackets (RFC 5321, section 4.5.3.1.3).
const LONGEST_EMAIL: usize = 254;
const PASSWORD: std::ops::RangeInclusive<usize> = 8..=128;

const ID_RULE: &str = "it is from 1 to 63 lower-case letters, digits and hyphens, the first a letter and the last no hyphen";
const NAME_RULE: &str = "it is users/ID, where the id is from 1 to 63 lower-case letters, digits and hyphens, the first a letter and the last no hyphen";

/// Whom to create, as checked.
pub(super) struct ValidUser {
    pub(super) id: String,
    pub(super) display_name: String,
    pub(super) email: String,
    pub(super) password: String,
    pub(super) request_id: Option<String>,
}

/// What to change of whom, as checked; `None` stays as it is.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) id: String,
    pub(super) etag: String,
    pub(super) display_name: Option<String>,
    pub(super) email: Option<String>,
    /// Empty takes it away.
    pub(super) password: Option<String>,
}

pub(super) fn new_user(request: CreateUserRequest) -> Result<ValidUser, Status> {
    let mut violations = Violations::default();
    violations.unless(is_id(&request.user_id), "user_id", ID_RULE);
    let request_id = match request.request_id.as_str() {
        "" => None,
        text => {
            let id = Uuid::try_parse(text).ok();
            violations.unless(id.is_some(), "request_id", "it is a UUID, or empty");
            // Written in one way, it is one id.
            id.map(|id| id.to_string())
        }
    };
    violations.unless(request.user.is_some(), "user", "it is required");
    let user = request.user.unwrap_or_default();
    if violations
        .0
        .iter()
        .all(|violation| violation.field != "user")
    {
        violations.display_name(&user.display_name);
        violations.email(&user.email);
        violations.password(&user.password);
    }
    violations.none()?;
    Ok(ValidUser {
        id: request.user_id,
        display_name: user.display_name,
        email: user.email,
        password: user.password,
        request_id,
    })
}

pub(super) fn changes(request: UpdateUserRequest) -> Result<Changes, Status> {
    let mut violations = Violations::default();
    violations.unless(request.user.is_some(), "user", "it is required");
    let user = request.user.unwrap_or_default();
    let mut changes = Changes {
        etag: user.etag,
        ..Changes::default()
    };
    match id_of(&user.name) {
        Some(id) => id.clone_into(&mut changes.id),
        None => violations.add("user.name", NAME_RULE),
    }
    let mask = request
        .update_mask
        .map(|mask| mask.paths)
        .unwrap_or_default();
    let is_named = |field: &str, value: &str| match &mask[..] {
        [] => !value.is_empty(),
        paths => paths.iter().any(|path| path == field || path == "*"),
    };
    if is_named("display_name", &user.display_name) {
        violations.display_name(&user.display_name);
        changes.display_name = Some(user.display_name);
    }
    if is_named("email", &user.email) {
        violations.email(&user.email);
        changes.email = Some(user.email);
    }
    if is_named("password", &user.password) {
        violations.password(&user.password);
        changes.password = Some(user.password);
    }
    let known = ["display_name", "email", "password", "*"];
    for (index, path) in mask.iter().enumerate() {
        let field = format!("update_mask.paths[{index}]");
        violations.unless(
            known.contains(&path.as_str()),
            field,
            "it is display_name, email, password or *",
        );
    }
    violations.none()?;
    Ok(changes)
}

/// The id in a name.
pub(super) fn name(name: &str) -> Result<&str, Status> {
    let invalid = || bad_request(vec![FieldViolation::new("name", NAME_RULE)]);
    id_of(name).ok_or_else(invalid)
}

/// The id in a name; a password that cannot be one is refused as it stands, whoever's it is.
pub(super) fn credentials<'a>(name: &'a str, password: &str) -> Result<&'a str, Status> {
    let mut violations = Violations::default();
    violations.unless(!password.is_empty(), "password", "it is required");
    violations.unless(
        password.len() <= PASSWORD.end() * 4,
        "password",
        "it is longer than a password can be",
    );
    let id = id_of(name);
    violations.unless(id.is_some(), "name", NAME_RULE);
    violations.none()?;
    Ok(id.unwrap_or_default())
}

/// Whether every character may stand in an id.
pub(super) fn is_part_of_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.len() <= LONGEST_ID && text.bytes().all(allowed)
}

fn is_id(text: &str) -> bool {
    is_part_of_id(text)
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && !text.ends_with('-')
}

fn id_of(name: &str) -> Option<&str> {
    name.strip_prefix(COLLECTION).filter(|id| is_id(id))
}

/// What is wrong with a request, field by field.
#[derive(Default)]
struct Violations(Vec<FieldViolation>);

impl Violations {
    fn add(&mut self, field: impl Into<String>, rule: &str) {
        self.0.push(FieldViolation::new(field, rule));
    }

    fn unless(&mut self, holds: bool, field: impl Into<String>, rule: &str) {
        if !holds {
            self.add(field, rule);
        }
    }

    fn display_name(&mut self, name: &str) {
        let fits = name.chars().count() <= LONGEST_DISPLAY_NAME;
        self.unless(
            fits && !name.chars().any(char::is_control),
            "user.display_name",
            "it is at most 100 characters, none of them a control character",
        );
    }

    fn email(&mut self, email: &str) {
        self.unless(
            email.len() <= LONGEST_EMAIL && EmailAddress::is_valid(email),
            "user.email",
            "it is an e-mail address of at most 254 bytes, such as ann@example.com",
        );
    }

    fn password(&mut self, password: &str) {
        self.unless(
            password.is_empty() || PASSWORD.contains(&password.chars().count()),
            "user.password",
            "it is from 8 to 128 characters, or empty",
        );
    }

    fn none(self) -> Result<(), Status> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(bad_request(self.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use prost_types::FieldMask;
    use proto::user::v1::User;
    use tonic_types::StatusExt;

    use super::*;

    fn fields(status: &Status) -> Vec<String> {
        let details = status.get_details_bad_request().expect("a BadRequest");
        let violations = details.field_violations.into_iter();
        violations.map(|violation| violation.field).collect()
    }

    fn valid<T>(checked: Result<T, Status>) -> T {
        checked.unwrap_or_else(|refused| panic!("{refused}"))
    }

    fn ann() -> User {
        User {
            name: "users/ann".to_owned(),
            email: "ann@example.com".to_owned(),
            ..User::default()
        }
    }

    #[test]
    fn an_id_is_a_label() {
        for id in ["a", "ann", "ann-2", &"a".repeat(63)] {
            assert!(is_id(id), "{id}");
        }
        for id in [
            "",
            "2ann",
            "-ann",
            "ann-",
            "Ann",
            "ann.b",
            "än",
            "a/b",
            &"a".repeat(64),
        ] {
            assert!(!is_id(id), "{id}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_and_no_password_is_repeated() {
        let request = CreateUserRequest {
            user_id: "Ann".to_owned(),
            request_id: "7".to_owned(),
            user: Some(User {
                display_name: "a\nb".to_owned(),
                email: "ann".to_owned(),
                password: "s3cr3t".to_owned(),
                ..User::default()
            }),
        };
        let refused = new_user(request).err().expect("refused");
        let all = [
            "user_id",
            "request_id",
            "user.display_name",
            "user.email",
            "user.password",
        ];
        assert_eq!(fields(&refused), all);
        assert!(!format!("{refused:?}").contains("s3cr3t"));
        let refused = new_user(CreateUserRequest::default())
            .err()
            .expect("refused");
        assert_eq!(fields(&refused), ["user_id", "user"]);
    }

    #[test]
    fn a_request_id_is_the_same_however_it_is_written() {
        let id = |text: &str| {
            let request = CreateUserRequest {
                user_id: "ann".to_owned(),
                request_id: text.to_owned(),
                user: Some(ann()),
            };
            valid(new_user(request)).request_id
        };
        let one = id("67e55044-10b1-426f-9247-bb680e5fe0c8");
        assert!(one.is_some());
        assert_eq!(one, id("67E5504410B1426F9247BB680E5FE0C8"));
        assert_eq!(id(""), None);
    }

    #[test]
    fn a_mask_says_what_is_changed() {
        let change = |paths: &[&str]| {
            let paths = paths.iter().map(ToString::to_string).collect();
            changes(UpdateUserRequest {
                user: Some(ann()),
                update_mask: Some(FieldMask { paths }),
            })
        };
        let by_value = valid(change(&[]));
        assert_eq!(by_value.email.as_deref(), Some("ann@example.com"));
        assert_eq!((by_value.display_name, by_value.password), (None, None));
        let named = valid(change(&["display_name"]));
        assert_eq!(
            (named.display_name.as_deref(), named.email),
            (Some(""), None)
        );
        let all = valid(change(&["*"]));
        assert_eq!(all.password.as_deref(), Some(""));
        let refused = change(&["email", "etag"]).err().expect("refused");
        assert_eq!(fields(&refused), ["update_mask.paths[1]"]);
    }

    /// An e-mail address of so many bytes, from 194 to 257.
    fn email_of(bytes: usize) -> String {
        let label = "b".repeat(63);
        let rest = "c".repeat(bytes - 64 - 1 - 2 * 64);
        format!("{}@{label}.{label}.{rest}", "a".repeat(64))
    }

    #[test]
    fn each_field_is_taken_at_its_limits_and_refused_one_beyond() {
        type Set = fn(&mut User, String);
        let long = |count| "å".repeat(count);
        let none = String::new;
        let cases: [(_, Set, _, _); 3] = [
            (
                "user.display_name",
                |user, text| user.display_name = text,
                vec![none(), long(100)],
                vec![long(101)],
            ),
            (
                "user.email",
                |user, text| user.email = text,
                vec!["a@b".to_owned(), email_of(254)],
                vec![none(), email_of(255)],
            ),
            (
                "user.password",
                |user, text| user.password = text,
                vec![none(), long(8), long(128)],
                vec![long(7), long(129)],
            ),
        ];
        for (field, set, taken, refused) in cases {
            let is_taken = |text: &String| {
                let mut user = ann();
                set(&mut user, text.clone());
                let created = new_user(CreateUserRequest {
                    user_id: "ann".to_owned(),
                    user: Some(user.clone()),
                    ..CreateUserRequest::default()
                });
                let paths = vec!["*".to_owned()];
                let changed = changes(UpdateUserRequest {
                    user: Some(user),
                    update_mask: Some(FieldMask { paths }),
                });
                let outcomes = [created.map(drop), changed.map(drop)];
                outcomes.map(|outcome| match outcome {
                    Ok(()) => true,
                    Err(status) => {
                        assert_eq!(fields(&status), [field]);
                        false
                    }
                })
            };
            for text in &taken {
                assert_eq!(is_taken(text), [true; 2], "{field}: {text}");
            }
            for text in &refused {
                assert_eq!(is_taken(text), [false; 2], "{field}: {text}");
            }
        }
    }

    #[test]
    fn credentials_are_looked_at_up_to_the_longest_that_a_password_and_an_id_can_be() {
        let longest = "users/".to_owned() + &"a".repeat(63);
        // Four bytes are the most that a character has.
        assert!(credentials(&longest, &"x".repeat(512)).is_ok());
        let refused = |name: &str, password: &str| {
            let refused = credentials(name, password).expect_err("refused");
            fields(&refused)
        };
        assert_eq!(refused("users/ann", &"x".repeat(513)), ["password"]);
        assert_eq!(refused("users/ann", ""), ["password"]);
        assert_eq!(refused(&(longest + "a"), "secret"), ["name"]);
        let part = "a".repeat(63);
        assert!(is_part_of_id(&part) && !is_part_of_id(&(part + "a")));
    }
}
