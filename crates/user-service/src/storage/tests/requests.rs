//! What is remembered of requests to create a user.

use tokio::task::JoinSet;

use super::{NewUser, Place, StorageError, email, new};

on_both! {
    a_request_that_comes_again_is_answered_the_same_and_creates_nobody
    requests_that_come_at_once_create_one_user
    a_request_that_fails_is_not_remembered
    a_request_id_of_another_user_is_refused
    requests_are_forgotten_by_their_time
    many_requests_are_forgotten_a_thousand_at_a_time
}

fn requested(id: &str, request_id: &str) -> NewUser {
    NewUser {
        request_id: Some(request_id.to_owned()),
        ..new(id)
    }
}

async fn a_request_that_comes_again_is_answered_the_same_and_creates_nobody(place: Place) {
    let storage = place.storage().await;
    let first = storage
        .create(&requested("ann", "r1"))
        .await
        .expect("first");
    let mut again = requested("ann", "r1");
    again.user.etag = "another".to_owned();
    assert_eq!(storage.create(&again).await.expect("again"), first);
    storage
        .update("ann", "", &email("new@example.com", "2"))
        .await
        .expect("changed");
    assert_eq!(storage.create(&again).await.expect("again"), first);
    storage.delete("ann", "").await.expect("deleted");
    assert_eq!(storage.create(&again).await.expect("again"), first);
    let nobody = storage.get("ann").await;
    assert!(matches!(nobody, Err(StorageError::NotFound)), "{nobody:?}");
}

async fn requests_that_come_at_once_create_one_user(place: Place) {
    let mut wanting = JoinSet::new();
    for number in 0..8 {
        let storage = place.storage().await;
        let mut wanted = requested("ann", "r1");
        wanted.user.etag = number.to_string();
        wanting.spawn(async move { storage.create(&wanted).await.expect("the same user") });
    }
    let answers = wanting.join_all().await;
    let found = place.storage().await.get("ann").await.expect("found");
    assert!(answers.iter().all(|answer| *answer == found), "{answers:?}");
}

async fn a_request_that_fails_is_not_remembered(place: Place) {
    let storage = place.storage().await;
    storage.create(&new("ann")).await.expect("created");
    let taken = storage.create(&requested("ann", "r1")).await;
    assert!(
        matches!(taken, Err(StorageError::AlreadyExists)),
        "{taken:?}"
    );
    let other = storage.create(&requested("bob", "r1")).await;
    assert_eq!(other.expect("created"), new("bob").user);
}

async fn a_request_id_of_another_user_is_refused(place: Place) {
    let storage = place.storage().await;
    storage
        .create(&requested("ann", "r1"))
        .await
        .expect("created");
    let reused = storage.create(&requested("bob", "r1")).await;
    assert!(
        matches!(reused, Err(StorageError::RequestReused)),
        "{reused:?}"
    );
}

async fn requests_are_forgotten_by_their_time(place: Place) {
    let storage = place.storage().await;
    storage
        .create(&requested("ann", "r1"))
        .await
        .expect("created");
    let time = new("ann").user.create_time;
    assert_eq!(storage.forget_requests(time).await.expect("none"), 0);
    assert_eq!(storage.forget_requests(time + 1).await.expect("one"), 1);
    let again = storage.create(&requested("ann", "r1")).await;
    assert!(
        matches!(again, Err(StorageError::AlreadyExists)),
        "{again:?}"
    );
}

async fn many_requests_are_forgotten_a_thousand_at_a_time(place: Place) {
    let storage = place.storage().await;
    let many = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 2001) \
        INSERT INTO create_requests SELECT CAST(n AS TEXT), 'ann', '', '', '', n, n FROM numbers";
    storage.does(many).await;
    let mut counts = Vec::new();
    for _ in 0..4 {
        counts.push(storage.forget_requests(2_001).await.expect("forgotten"));
    }
    assert_eq!(
        counts,
        [1_000, 1_000, 0, 0],
        "the last one is not old enough"
    );
}
