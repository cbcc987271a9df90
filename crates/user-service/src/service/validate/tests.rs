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

fn masked(user: User, paths: &[&str]) -> Result<Changes, Status> {
    let paths = paths.iter().map(ToString::to_string).collect();
    changes(UpdateUserRequest {
        user: Some(user),
        update_mask: Some(FieldMask { paths }),
    })
}

#[test]
fn a_mask_says_what_is_changed() {
    let by_value = valid(masked(ann(), &[]));
    assert_eq!(by_value.email.as_deref(), Some("ann@example.com"));
    assert_eq!((by_value.display_name, by_value.password), (None, None));
    let named = valid(masked(ann(), &["display_name"]));
    assert_eq!(
        (named.display_name.as_deref(), named.email),
        (Some(""), None)
    );
    let refused = masked(ann(), &["email", "user.email"]).err();
    let refused = refused.expect("refused");
    assert_eq!(fields(&refused), ["update_mask.paths[1]"]);
}

#[test]
fn who_writes_back_all_that_was_got_keeps_the_password() {
    let all = valid(masked(ann(), &["*"]));
    assert_eq!(
        (all.display_name.as_deref(), all.email.as_deref()),
        (Some(""), Some("ann@example.com"))
    );
    assert_eq!(all.password, None, "it is never told, so it is not there");
    let removed = valid(masked(ann(), &["*", "password"]));
    assert_eq!(removed.password.as_deref(), Some(""), "it is named");
    let mut with_password = ann();
    "correct horse".clone_into(&mut with_password.password);
    let set = valid(masked(with_password, &["*"]));
    assert_eq!(set.password.as_deref(), Some("correct horse"));
}

#[test]
fn what_is_only_told_is_left_out_of_a_mask() {
    let told = ["name", "etag", "create_time", "update_time"];
    let nothing = valid(masked(ann(), &told));
    assert_eq!(
        (nothing.display_name, nothing.email, nothing.password),
        (None, None, None)
    );
    let email = valid(masked(ann(), &["email", "update_time"]));
    assert_eq!(email.email.as_deref(), Some("ann@example.com"));
}

/// What a refusal takes in the trailers of an answer, about: blanks of its message are three bytes, and details are base64.
fn size_in_trailers(status: &Status) -> usize {
    let blanks = status.message().matches(' ').count();
    status.message().len() + 2 * blanks + status.details().len().div_ceil(3) * 4
}

#[test]
fn a_refusal_is_short_however_much_is_wrong() {
    let most = 8 * 1024;
    let user = User {
        display_name: "\n".to_owned(),
        password: "short".to_owned(),
        ..User::default()
    };
    let mut paths = vec!["display_name", "email", "password"];
    paths.resize(16, "nickname");
    let each = masked(user.clone(), &paths).err().expect("refused");
    assert_eq!(fields(&each).len(), 4 + 13);
    assert!(size_in_trailers(&each) < most, "{each}");
    // As many as a message of 4 MiB holds.
    paths.resize(2 * 1024 * 1024, "");
    let all = masked(user, &paths).err().expect("refused");
    assert!(size_in_trailers(&all) < most, "{}", size_in_trailers(&all));
    assert!(fields(&all).contains(&"update_mask".to_owned()));
}

#[test]
fn an_address_is_an_address_alone_and_text_that_no_database_takes_is_refused() {
    for email in [
        "Ann <ann@example.com>",
        "a\0 <ann@example.com>",
        "\"a\0\"@example.com",
        "ann@[\0]",
    ] {
        let user = User {
            email: email.to_owned(),
            display_name: "a\0".to_owned(),
            ..ann()
        };
        let refused = masked(user, &["*"]).err().expect(email);
        assert_eq!(fields(&refused), ["user.display_name", "user.email"]);
    }
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
