//! What a storage that is down, or too slow, comes to.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use testkit::{postgres::Postgres, until};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    Place, StorageError, email, new,
    place::{BOUND, CONNECTIONS, prepared},
};
use crate::storage::{Storage, StorageUrl};

/// Long enough for a connection and an answer on a busy machine, short enough to wait for.
const LIMIT: Duration = Duration::from_secs(2);

/// What is true of sessions of ours that wait for a lock.
const WAITING: &str = "application_name = 'user-service' AND wait_event_type = 'Lock'";

/// Waits until so many of the server's sessions are such.
async fn until_sessions(server: &Postgres, url: &str, such: &str, count: u32) {
    let counting = format!("SELECT count(*) FROM pg_stat_activity WHERE {such}");
    until(
        BOUND,
        &format!("{count} sessions with {such}"),
        async || {
            let counted = server.sql(url, &counting).await?;
            anyhow::ensure!(counted == count.to_string(), "{counted} are");
            Ok(())
        },
    )
    .await
    .expect("as many");
}

#[tokio::test]
async fn what_is_known_to_be_down_is_not_asked() {
    let place = Place::sqlite();
    let storage = place.storage().await;
    storage.create(&new("ann")).await.expect("created");
    storage.set_usable(false);
    let down = storage.get("ann").await;
    assert!(matches!(down, Err(StorageError::Down)), "{down:?}");
    storage.set_usable(true);
    storage.get("ann").await.expect("found");
}

#[tokio::test]
async fn a_file_that_cannot_be_made_is_told() {
    let url: StorageUrl = "sqlite:///proc/users/users.db".parse().expect("a URL");
    let storage = Storage::new(&url, 1, LIMIT).expect("a storage");
    let refused = storage.prepare().await;
    assert!(
        matches!(refused, Err(StorageError::System(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_server_that_is_killed_is_unavailable_until_it_is_back_and_nothing_is_lost() {
    let mut server = Postgres::start().await.expect("a server");
    let url = server.database().await.expect("a database");
    let storage = prepared(&url.parse().expect("a URL"), Duration::from_secs(5)).await;
    storage.create(&new("ann")).await.expect("created");

    server.kill().await.expect("it is gone");
    // Its process for our connection ends when that hears of it, and may answer once more.
    until(BOUND, "the server to be gone", async || {
        match storage.get("ann").await {
            Err(gone) if gone.is_unavailable() => Ok(()),
            other => anyhow::bail!("not gone: {other:?}"),
        }
    })
    .await
    .expect("gone");
    timeout(BOUND, storage.trouble())
        .await
        .expect("trouble is told");
    let unusable = storage.check().await.expect_err("there is no server");
    assert!(unusable.is_unavailable(), "{unusable:?}");
    assert!(!format!("{unusable:?}").contains(server.password()));

    server.restart().await.expect("it is back");
    until(BOUND, "the storage to be usable", async || {
        Ok(storage.check().await?)
    })
    .await
    .expect("usable");
    storage.prepare().await.expect("prepared as before");
    assert_eq!(storage.get("ann").await.expect("found"), new("ann").user);
}

#[tokio::test]
async fn a_statement_that_waits_too_long_is_given_up_here_and_in_the_server() {
    let server = Postgres::start().await.expect("a server");
    let url = server.database().await.expect("a database");
    let storage = prepared(&url.parse().expect("a URL"), LIMIT).await;
    let hold = "BEGIN; LOCK TABLE users; SELECT pg_sleep(600)";
    let giving_up = async {
        until(BOUND, "an operation to be given up", async || {
            let began = Instant::now();
            match storage.get("ann").await {
                Err(error) if error.is_unavailable() => {
                    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
                    Ok(())
                }
                other => anyhow::bail!("not held yet: {other:?}"),
            }
        })
        .await
        .expect("given up");
        let ours = "application_name = 'user-service' AND state = 'active'";
        until_sessions(&server, &url, ours, 0).await;
    };
    tokio::select! {
        ended = server.sql(&url, hold) => panic!("the lock was let go: {ended:?}"),
        () = giving_up => {}
    }
}

#[tokio::test]
async fn callers_who_give_up_leave_nothing_behind_in_the_server() {
    let server = Postgres::start().await.expect("a server");
    let url = server.database().await.expect("a database");
    // Long enough that it is not the limit that ends them.
    let limit = Duration::from_mins(10);
    let storage = prepared(&url.parse().expect("a URL"), limit).await;
    storage.create(&new("ann")).await.expect("created");
    let mut other = PgConnection::connect(&url).await.expect("a connection");
    let mut holding = other.begin().await.expect("a transaction");
    let hold = sqlx::query("UPDATE users SET display_name = 'held' WHERE id = 'ann'");
    hold.execute(&mut *holding).await.expect("held");
    for _ in 0..3 {
        let mut callers = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let storage = storage.clone();
            let change = email("new@example.com", "2");
            callers.spawn(async move { storage.update("ann", "", &change).await.map(drop) });
        }
        until_sessions(&server, &url, WAITING, CONNECTIONS).await;
        callers.shutdown().await;
        until_sessions(&server, &url, WAITING, 0).await;
    }
}

#[tokio::test]
async fn a_preparation_that_is_cut_off_keeps_nobody_else_from_preparing() {
    let server = Postgres::start().await.expect("a server");
    let url = server.database().await.expect("a database");
    let storage_url = url.parse().expect("a URL");
    let cut_off = Storage::new(&storage_url, 1, BOUND).expect("a storage");
    // Whoever makes that table too waits for this one, and has the lock of all migrations.
    let hold = "BEGIN; CREATE TABLE _sqlx_migrations (version bigint); SELECT pg_sleep(600)";
    let cutting_off = async {
        let makers = "query LIKE '%pg_sleep(600)' AND wait_event = 'PgSleep'";
        until_sessions(&server, &url, makers, 1).await;
        tokio::select! {
            ended = cut_off.prepare() => panic!("it did not wait: {ended:?}"),
            () = until_sessions(&server, &url, WAITING, 1) => {}
        }
    };
    tokio::select! {
        ended = server.sql(&url, hold) => panic!("the table was let go: {ended:?}"),
        () = cutting_off => {}
    }
    // The server itself would not see before its end that nobody waits for it.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE query LIKE '%pg_sleep(600)'";
    server.sql(&url, end).await.expect("ended");
    let _prepared = prepared(&storage_url, BOUND).await;
    drop(cut_off);
}

#[tokio::test]
async fn a_file_that_somebody_else_writes_to_for_too_long_is_unavailable() {
    let directory = tempfile::tempdir().expect("a directory");
    let url = StorageUrl::Sqlite(directory.path().join("users.db"));
    let (storage, other) = (prepared(&url, LIMIT).await, prepared(&url, BOUND).await);
    let crate::storage::Pool::Sqlite { aside, .. } = &other.0.pool else {
        panic!("a file")
    };
    let mut connection = aside.take(BOUND).await.expect("a connection");
    let writing = connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .expect("a transaction");
    let began = Instant::now();
    let busy = storage
        .create(&new("ann"))
        .await
        .expect_err("somebody writes");
    assert!(busy.is_unavailable(), "{busy:?}");
    assert!(began.elapsed() < BOUND);
    drop(writing);
    until(BOUND, "the file to be let go", async || {
        match storage.create(&new("ann")).await {
            // One that was cut off here may have been made there.
            Err(StorageError::AlreadyExists) => Ok(()),
            created => Ok(created.map(drop)?),
        }
    })
    .await
    .expect("created");
}
