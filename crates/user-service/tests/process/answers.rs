//! What each method answers, over a real channel.

use std::{
    collections::BTreeMap,
    io::Write,
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prost_types::FieldMask;
use proto::user::v1::{
    AuthenticateRequest, CreateUserRequest, DeleteUserRequest, GetUserRequest, ListUsersRequest,
    UpdateUserRequest, User,
};
use serde_json::Value;
use testkit::{Signal, fleet::Fleet, postgres::Postgres};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::running::{BOUND, Scene, bounded};

fn named(name: &str) -> GetUserRequest {
    GetUserRequest {
        name: name.to_owned(),
    }
}

/// What kind of failure it is, for programs.
fn reason(status: &Status) -> String {
    let told = status.get_details_error_info().expect("an ErrorInfo");
    assert_eq!(told.domain, "user.v1.UserService");
    told.reason
}

fn credentials(name: &str, password: &str) -> AuthenticateRequest {
    AuthenticateRequest {
        name: name.to_owned(),
        password: password.to_owned(),
    }
}

#[tokio::test]
async fn a_user_is_created_changed_listed_and_deleted() {
    let scene = Scene::new();
    let _service = scene.user_service("").await;
    let mut users = scene.users.clone();
    let ann = scene.create("ann", "").await.expect("created");
    assert_eq!(
        (ann.name.as_str(), ann.password.as_str()),
        ("users/ann", "")
    );
    assert!(!ann.etag.is_empty() && ann.create_time.is_some());
    let taken = scene.create("ann", "").await.expect_err("taken");
    assert_eq!(taken.code(), Code::AlreadyExists);
    assert_eq!(reason(&taken), "USER_EXISTS");
    let found = users
        .get_user(bounded(named("users/ann")))
        .await
        .expect("found");
    assert_eq!(found.into_inner(), ann);
    let nobody = users.get_user(bounded(named("users/bob"))).await;
    assert_eq!(nobody.expect_err("nobody").code(), Code::NotFound);

    let change = UpdateUserRequest {
        user: Some(User {
            email: "new@example.com".to_owned(),
            ..ann.clone()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["email".to_owned()],
        }),
    };
    let changed = users
        .update_user(bounded(change.clone()))
        .await
        .expect("changed");
    let changed = changed.into_inner();
    assert_eq!(changed.email, "new@example.com");
    assert_eq!(changed.display_name, ann.display_name);
    let stale = users.update_user(bounded(change)).await.expect_err("stale");
    assert_eq!(stale.code(), Code::Aborted);

    for id in ["anna", "ben"] {
        scene.create(id, "").await.expect("created");
    }
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListUsersRequest {
            page_size: 1,
            page_token,
            filter: "name = \"users/an*\"".to_owned(),
        };
        let page = users
            .list_users(bounded(request))
            .await
            .expect("a page")
            .into_inner();
        assert!(page.users.len() <= 1);
        listed.extend(page.users.into_iter().map(|user| user.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, ["users/ann", "users/anna"]);

    let delete = |etag: &str| {
        bounded(DeleteUserRequest {
            name: "users/ann".to_owned(),
            etag: etag.to_owned(),
        })
    };
    let stale = users
        .delete_user(delete(&ann.etag))
        .await
        .expect_err("stale");
    assert_eq!(stale.code(), Code::Aborted);
    assert_eq!(reason(&stale), "ETAG_MISMATCH");
    users
        .delete_user(delete(&changed.etag))
        .await
        .expect("deleted");
    let nobody = users.delete_user(delete("")).await.expect_err("deleted");
    assert_eq!(nobody.code(), Code::NotFound);
    assert_eq!(reason(&nobody), "USER_NOT_FOUND");
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told_field_by_field() {
    let scene = Scene::new();
    let _service = scene.user_service("").await;
    let request = CreateUserRequest {
        user_id: "Ann".to_owned(),
        user: Some(User::default()),
        ..CreateUserRequest::default()
    };
    let refused = scene.users.clone().create_user(bounded(request)).await;
    let refused = refused.expect_err("refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(reason(&refused), "INVALID_REQUEST");
    let told = refused.get_details_bad_request().expect("a BadRequest");
    let fields: Vec<_> = told
        .field_violations
        .iter()
        .map(|told| told.field.as_str())
        .collect();
    assert_eq!(fields, ["user_id", "user.email"]);
}

#[tokio::test]
async fn a_request_that_is_longer_than_any_can_be_is_not_read() {
    let scene = Scene::new();
    let _service = scene.user_service("").await;
    let ann = scene.create("ann", "").await.expect("created");
    let masked = |paths: usize| {
        bounded(UpdateUserRequest {
            user: Some(ann.clone()),
            update_mask: Some(FieldMask {
                // Two bytes each.
                paths: vec![String::new(); paths],
            }),
        })
    };
    let mut users = scene.users.clone();
    let refused = users.update_user(masked(30_000)).await;
    let refused = refused.expect_err("no field has that name");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let told = refused.get_details_bad_request().expect("a BadRequest");
    let [told] = &told.field_violations[..] else {
        panic!("{told:?}")
    };
    assert_eq!(told.field, "update_mask");
    let refused = users.update_user(masked(40_000)).await;
    let refused = refused.expect_err("it is too long");
    assert_eq!(refused.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn a_request_that_comes_again_creates_nobody() {
    let scene = Scene::new();
    let _service = scene.user_service("").await;
    let request = |id: &str| {
        bounded(CreateUserRequest {
            user_id: id.to_owned(),
            request_id: "67e55044-10b1-426f-9247-bb680e5fe0c8".to_owned(),
            user: Some(User {
                email: "ann@example.com".to_owned(),
                ..User::default()
            }),
        })
    };
    let mut users = scene.users.clone();
    let first = users
        .create_user(request("ann"))
        .await
        .expect("created")
        .into_inner();
    let again = users
        .create_user(request("ann"))
        .await
        .expect("created")
        .into_inner();
    assert_eq!(first, again);
    let other = users
        .create_user(request("ben"))
        .await
        .expect_err("another");
    assert_eq!(other.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn who_knows_the_password_has_a_token_and_nobody_else_learns_who_there_is() {
    let scene = Scene::new();
    let service = scene.user_service("").await;
    let mut users = scene.users.clone();
    scene.create("ann", "correct horse").await.expect("created");
    scene.create("nopass", "").await.expect("created");
    let known = users
        .authenticate(bounded(credentials("users/ann", "correct horse")))
        .await;
    let known = known.expect("a token").into_inner();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let left = known.expire_time.expect("a time").seconds - i64::try_from(now).expect("a time");
    assert!((3_500..=3_600).contains(&left), "{left}");

    // What the service computes says how long it takes on a machine that does nothing else; the least of each counts.
    let names = ["users/ann", "users/nobody", "users/nopass"];
    let mut least_of_each = [Duration::MAX; 3];
    let computed = || service.process.cpu_time().expect("it runs");
    for _ in 0..5 {
        for (name, least) in names.iter().zip(&mut least_of_each) {
            let before = computed();
            let refused = users
                .authenticate(bounded(credentials(name, "battery staple")))
                .await;
            *least = computed().saturating_sub(before).min(*least);
            let refused = refused.expect_err("another password");
            assert_eq!(refused.code(), Code::Unauthenticated);
            assert_eq!(reason(&refused), "WRONG_CREDENTIALS");
            assert_eq!(
                refused.message(),
                "there is no such user, or the password is another"
            );
        }
    }
    // What nothing is hashed for takes a hundredth of that.
    let [one, another, third] = least_of_each;
    let (least, most) = (one.min(another).min(third), one.max(another).max(third));
    assert!(most < least * 3, "{least_of_each:?}");

    let output = service.output();
    for secret in ["correct horse", "battery staple", &known.token] {
        assert!(!output.contains(secret), "{output}");
    }
}

#[tokio::test]
async fn nothing_secret_is_logged_at_the_lowest_level() {
    let server = Postgres::start().await.expect("a server");
    let scene = Scene::new();
    let url = server.database().await.expect("a database");
    let mut command = scene.command("user-service", &[]);
    command.env("DISCOVERY__STORAGE__URL", &url);
    command.env("DISCOVERY__LOG__LEVEL", "trace");
    let process = testkit::process::Process::spawn("user-service", command).expect("it starts");
    scene.create("ann", "correct horse").await.expect("created");
    let known = bounded(credentials("users/ann", "correct horse"));
    let known = scene
        .users
        .clone()
        .authenticate(known)
        .await
        .expect("a token");
    // Whatever it has to say it has said when it has ended.
    let ended = process.terminate(BOUND).await.expect("it ends");
    assert!(ended.success());
    let lines = process.output();
    assert!(lines.len() < 10_000, "the first lines are gone");
    let method = "UserService/Authenticate";
    let told = lines.iter().any(|line| line.text.contains(method));
    assert!(told, "it is the lowest level");
    for secret in [server.password(), "correct horse", &known.get_ref().token] {
        let line = lines.iter().find(|line| line.text.contains(secret));
        assert!(line.is_none(), "{line:?}");
    }
}

#[tokio::test]
async fn a_user_is_greeted_by_whoever_is_the_greeter_and_no_kill_fails_a_call() {
    let scene = Scene::new();
    let (_service, _stays, goes) =
        tokio::join!(scene.user_service(""), scene.greeter(), scene.greeter());
    scene.create("ann", "").await.expect("created");
    let greeting = scene.greet("ann").await.expect("greeted");
    assert!(
        greeting.starts_with("Hello ann the user from 127.0.0.1:"),
        "{greeting}"
    );
    let nobody = scene.greet("bob").await.expect_err("nobody");
    assert_eq!(nobody.code(), Code::NotFound);
    for number in 0..300 {
        if number == 100 {
            goes.signal(Signal::SIGKILL).expect("it ran");
        }
        scene.greet("ann").await.expect("greeted");
    }
}

#[tokio::test]
async fn users_created_through_one_instance_are_read_through_the_others() {
    let server = Postgres::start().await.expect("a server");
    let url = server.database().await.expect("a database");
    let scene = Scene::new();
    let _services = tokio::join!(
        scene.user_service(&url),
        scene.user_service(&url),
        scene.user_service(&url)
    );
    for number in 0..6 {
        scene
            .create(&format!("u{number}"), "")
            .await
            .expect("created");
    }
    for number in 0..24 {
        let name = format!("users/u{}", number % 6);
        let found = scene.users.clone().get_user(bounded(named(&name))).await;
        assert_eq!(found.expect("found").into_inner().name, name);
    }
    // Each page is asked of another instance than the one before.
    let mut page_token = String::new();
    for number in 0..6 {
        let request = ListUsersRequest {
            page_size: 1,
            page_token,
            filter: String::new(),
        };
        let page = scene.users.clone().list_users(bounded(request)).await;
        let page = page.expect("a page").into_inner();
        let name = format!("users/u{number}");
        assert_eq!(page.users.first().map(|user| &*user.name), Some(&*name));
        page_token = page.next_page_token;
    }
    assert_eq!(page_token, "");
}

#[tokio::test]
async fn the_admin_commands_find_the_service_by_its_name() {
    let scene = Scene::new();
    let (_service, _greeter) = tokio::join!(scene.user_service(""), scene.greeter());
    let admin = async |line: &str, stdin: &str| {
        let mut command = scene.command("user-service", &["admin", "--timeout", "30s"]);
        command.args(line.split(' '));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let stdin = stdin.to_owned();
        let ended = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().expect("it starts");
            let mut to = child.stdin.take().expect("a pipe");
            to.write_all(stdin.as_bytes()).ok();
            drop(to);
            child.wait_with_output().expect("it ends")
        });
        let ended = tokio::time::timeout(BOUND, ended)
            .await
            .expect("in time")
            .expect("ended");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (
            ended.status.success(),
            text(ended.stdout),
            text(ended.stderr),
        )
    };
    let create =
        "create ann --email ann@example.com --display-name Ann --password-stdin --output json";
    let (done, printed, said) = admin(create, "correct horse\n").await;
    assert!(done, "{said}");
    let created: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(created["name"], "users/ann");
    let known = bounded(credentials("users/ann", "correct horse"));
    scene
        .users
        .clone()
        .authenticate(known)
        .await
        .expect("a token");
    admin("create ben --email ben@example.com", "").await;

    assert_eq!(
        admin("get ann", "").await.1,
        "users/ann  ann@example.com  Ann\n"
    );
    assert_eq!(
        admin("list --prefix b", "").await.1,
        "users/ben  ben@example.com  \n"
    );
    assert_eq!(admin("list --output json", "").await.1.lines().count(), 2);
    let (_, greeting, _) = admin("greet ann", "").await;
    assert!(greeting.starts_with("Hello Ann from "), "{greeting}");
    assert!(admin("delete ben", "").await.0);
    assert_eq!(admin("list --prefix b", "").await.1, "");
    let (done, printed, said) = admin("get nobody", "").await;
    assert!(
        !done && printed.is_empty() && said.contains("there is no user of that name"),
        "{said}"
    );
}

#[tokio::test]
async fn greeter_client_has_a_user_greeted_as_often_as_it_is_told() {
    let scene = Scene::new();
    let (_service, _greeter) = tokio::join!(scene.user_service(""), scene.greeter());
    scene.create("ann", "").await.expect("created");
    let callers = Fleet::new(&scene.url).expect("the binaries");
    for (user, status) in [("ann", "OK"), ("nobody", "NOT_FOUND")] {
        let calls = ["--count", "20", "--timeout", "30s", "--output", "json"];
        let client = callers.client(&[&["--user", user][..], &calls].concat());
        let figures = client.expect("it starts").figures(BOUND).await;
        let statuses = figures.expect("figures").statuses;
        assert_eq!(statuses, BTreeMap::from([(status.to_owned(), 20)]));
    }
}
