//! What callers and operators see while all connections to a storage that is well are in use.

use proto::user::v1::{UpdateUserRequest, User};
use registry::Status;
use sqlx::{Connection, PgConnection};
use testkit::postgres::Postgres;
use tokio::task::JoinSet;
use tonic::Code;

use crate::running::{Scene, bounded};

fn change(name: &str) -> UpdateUserRequest {
    UpdateUserRequest {
        user: Some(User {
            name: name.to_owned(),
            display_name: "Ann".to_owned(),
            ..User::default()
        }),
        update_mask: None,
    }
}

#[tokio::test]
async fn calls_that_wait_for_one_another_are_given_up_and_the_instance_goes_on_serving() {
    let server = Postgres::start().await.expect("a server");
    let url = server.database().await.expect("a database");
    let scene = Scene::new();
    let few = [
        ("DISCOVERY__STORAGE__CONNECTIONS", "2"),
        ("DISCOVERY__STORAGE__TIMEOUT", "5s"),
    ];
    let service = scene.user_service_with(&url, &few).await;
    scene.create("ann", "").await.expect("created");
    let mut other = PgConnection::connect(&url).await.expect("a connection");
    let mut holding = other.begin().await.expect("a transaction");
    let hold = sqlx::query("UPDATE users SET etag = 'held' WHERE id = 'ann'");
    hold.execute(&mut *holding).await.expect("held");

    let mut calls = JoinSet::new();
    for _ in 0..16 {
        let mut users = scene.users.clone();
        calls.spawn(async move { users.update_user(bounded(change("users/ann"))).await });
    }
    let mut codes = Vec::new();
    for outcome in calls.join_all().await {
        codes.push(outcome.expect_err("the user is held").code());
    }
    // Two had a connection each, and waited for the user; the others have waited for a connection.
    let of_each = [Code::Unavailable, Code::ResourceExhausted];
    assert!(codes.iter().all(|code| of_each.contains(code)), "{codes:?}");
    assert!(codes.contains(&Code::ResourceExhausted), "{codes:?}");

    assert_eq!(scene.statuses().await, [Status::Serving]);
    let said = service.output();
    assert!(!said.contains("the storage cannot be used"), "{said}");
    holding.rollback().await.expect("let go");
    let mut users = scene.users.clone();
    let changed = users.update_user(bounded(change("users/ann"))).await;
    let changed = changed.expect("changed").into_inner();
    assert_eq!(changed.display_name, "Ann");
}
