//! What a request may be. Each function looks at all of its request before it refuses, and names each field by its path.

#[cfg(test)]
mod tests;

use email_address::{EmailAddress, Options};
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
/// Several times the fields that there are. Each path that is wrong is told of, and an answer has to have an end.
const MOST_PATHS: usize = 16;
const CHANGEABLE: [&str; 4] = ["display_name", "email", "password", "*"];
/// What nobody changes by naming it: who takes a mask from a whole user names it too (AIP-203).
const TOLD: [&str; 4] = ["name", "etag", "create_time", "update_time"];

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
    let is_named = |field: &str| mask.iter().any(|path| path == field);
    let (all, what_is_there) = (is_named("*"), mask.is_empty());
    if is_named("display_name") || all || (what_is_there && !user.display_name.is_empty()) {
        violations.display_name(&user.display_name);
        changes.display_name = Some(user.display_name);
    }
    if is_named("email") || all || (what_is_there && !user.email.is_empty()) {
        violations.email(&user.email);
        changes.email = Some(user.email);
    }
    // It is never told: who gets a user, and writes all of it back, has none to write.
    if is_named("password") || ((all || what_is_there) && !user.password.is_empty()) {
        violations.password(&user.password);
        changes.password = Some(user.password);
    }
    violations.mask(&mask);
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
        // Without a name before it, in which any character could stand.
        let options = Options::default().without_display_text();
        let is_address = || EmailAddress::parse_with_options(email, options).is_ok();
        self.unless(
            email.len() <= LONGEST_EMAIL && is_address(),
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

    fn mask(&mut self, paths: &[String]) {
        if paths.len() > MOST_PATHS {
            return self.add("update_mask", "it has at most 16 paths");
        }
        for (index, path) in paths.iter().enumerate() {
            self.unless(
                CHANGEABLE.contains(&path.as_str()) || TOLD.contains(&path.as_str()),
                format!("update_mask.paths[{index}]"),
                "it is display_name, email, password or *",
            );
        }
    }

    fn none(self) -> Result<(), Status> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(bad_request(self.0))
        }
    }
}
