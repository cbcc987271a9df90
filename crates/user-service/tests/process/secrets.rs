//! Passwords and tokens are in nothing that a user-service tells of itself, whatever is done with them and however much it tells.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use proto::user::v1::{AuthenticateRequest, CreateUserRequest, UpdateUserRequest, User};
use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
use testkit::{otlp::hex, process::Process};
use tonic::Code;

use crate::{
    running::{BOUND, Scene, bounded},
    telling::Telling,
};

const FIRST: &str = "Zebra-Quilt-7411-first";
const SECOND: &str = "Zebra-Quilt-7412-second";
const WRONG: &str = "Zebra-Quilt-7413-wrong";
const REFUSED: &str = "Zebra-Quilt-7414-refused";
/// What all passwords here have in common.
const PASSWORDS: &str = "Zebra-Quilt";
/// How each hash begins.
const HASHES: &str = "$argon2";

fn authenticate(password: &str) -> AuthenticateRequest {
    AuthenticateRequest {
        name: "users/ann".to_owned(),
        password: password.to_owned(),
    }
}

/// Has ann created, knocks with good and bad passwords, and changes hers; gives the tokens, and all that the failures say.
async fn uses_passwords(scene: &Scene) -> (Vec<String>, Vec<u8>) {
    let mut users = scene.users.clone();
    let ann = scene.create("ann", FIRST).await.expect("created");
    let taken = scene.create("ann", REFUSED).await.expect_err("taken");
    let bad = CreateUserRequest {
        user_id: "No Name".to_owned(),
        user: Some(User {
            password: REFUSED.to_owned(),
            ..User::default()
        }),
        ..CreateUserRequest::default()
    };
    let bad = users.create_user(bounded(bad)).await.expect_err("refused");
    assert_eq!(bad.code(), Code::InvalidArgument);

    let mut tokens = Vec::new();
    let known = users.authenticate(bounded(authenticate(FIRST))).await;
    tokens.push(known.expect("a token").into_inner().token);
    let wrong = users.authenticate(bounded(authenticate(WRONG))).await;
    let wrong = wrong.expect_err("wrong");
    assert_eq!(wrong.code(), Code::Unauthenticated);

    let change = UpdateUserRequest {
        user: Some(User {
            password: SECOND.to_owned(),
            ..ann
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["password".to_owned()],
        }),
    };
    users
        .update_user(bounded(change.clone()))
        .await
        .expect("changed");
    let stale = users.update_user(bounded(change)).await.expect_err("stale");
    assert_eq!(stale.code(), Code::Aborted);
    let known = users.authenticate(bounded(authenticate(SECOND))).await;
    tokens.push(known.expect("a token").into_inner().token);
    let told = [taken, bad, wrong, stale].into_iter().flat_map(|failure| {
        let said = format!("{failure:?} {failure}").into_bytes();
        [said, failure.details().to_vec()].concat()
    });
    (tokens, told.collect())
}

/// The key that tokens are signed with, in every form in which it could be told.
async fn signing_key(scene: &Scene) -> [Vec<u8>; 4] {
    let options = SqliteConnectOptions::new().filename(scene.file());
    let mut storage = options.connect().await.expect("its file");
    let select = sqlx::query_scalar("SELECT secret FROM signing_key");
    let key: Vec<u8> = select.fetch_one(&mut storage).await.expect("a key");
    assert!(!key.is_empty());
    let base64 = STANDARD_NO_PAD.encode(&key).into_bytes();
    let hex = hex(&key).into_bytes();
    let debug = format!("{key:?}").into_bytes();
    [key, base64, hex, debug]
}

fn printed(process: &Process) -> Vec<u8> {
    let lines = process.output();
    assert!(lines.len() < 10_000, "the first lines are gone");
    let texts: Vec<_> = lines.iter().map(|line| &*line.text).collect();
    texts.join("\n").into_bytes()
}

fn holds(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|part| part == what)
}

#[tokio::test]
async fn no_span_metric_or_log_line_holds_a_password_a_hash_a_token_or_its_key() {
    let telling = Telling::begin("debug").await;
    let greeter = telling.greeter().await;
    let service = telling.user_service().await;
    let (tokens, failures) = uses_passwords(&telling.scene).await;
    let key = signing_key(&telling.scene).await;
    let create = [
        "create",
        "bob",
        "--email",
        "bob@example.com",
        "--password-stdin",
    ];
    let creation = telling.admin(&create, FIRST).await;
    let greeting = telling.admin(&["greet", "ann"], "").await;
    // Whatever they have to say they have said when they have ended.
    for process in [&service.process, &greeter] {
        let ended = process.terminate(BOUND).await.expect("it ends");
        assert!(ended.success());
    }

    let wire = telling.collector.wire();
    let told = [
        ("the collector", wire),
        ("user-service", printed(&service.process)),
        ("greeter-server", printed(&greeter)),
        ("admin create", creation),
        ("admin greet", greeting),
        ("a failure", failures),
    ];
    let signatures = tokens.iter().filter_map(|token| token.rsplit('.').next());
    let words = signatures.chain([PASSWORDS, HASHES]);
    let mut secrets: Vec<_> = words.map(|word| word.as_bytes().to_vec()).collect();
    assert_eq!(secrets.len(), 4);
    secrets.extend(key);
    for (whose, bytes) in &told {
        for secret in &secrets {
            let shown = String::from_utf8_lossy(secret);
            assert!(!holds(bytes, secret), "{whose} tells {shown}");
        }
    }
    let metrics = telling.collector.metrics("admin");
    let of_the_registry = metrics.iter().any(|m| m.name == "discovery.undecodable");
    assert!(of_the_registry, "{metrics:?}");
    // They tell a lot, so that this was worth asking.
    let spans = telling.collector.spans();
    let of_the_service = spans.iter().filter(|r| r.service == "user-service");
    let methods: BTreeSet<_> = of_the_service.map(|r| r.span.name.clone()).collect();
    for method in ["CreateUser", "UpdateUser", "Authenticate", "GreetUser"] {
        let method = format!("user.v1.UserService/{method}");
        assert!(methods.contains(&method), "{methods:?}");
        assert!(
            holds(&told[1].1, method.as_bytes()),
            "{method} is in no log line"
        );
    }
    assert!(!telling.collector.metrics("user-service").is_empty());
}
