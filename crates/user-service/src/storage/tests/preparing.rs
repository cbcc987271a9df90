//! Who prepares a storage, and for how long others wait.

use std::{fs::File, time::Duration};

use sqlx::{Connection, PgConnection, migrate::Migrate};
use testkit::{postgres::Postgres, until};
use tokio::time::timeout;

use super::{
    Place, StorageError, new,
    place::{BOUND, prepared},
};
use crate::storage::{Storage, StorageUrl};

#[tokio::test]
async fn a_file_is_prepared_by_nobody_while_somebody_has_its_lock() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("users.db");
    let lock = File::create(directory.path().join("users.db.lock")).expect("a file");
    lock.lock().expect("locked");
    let storage = Storage::new(&StorageUrl::Sqlite(file.clone()), 1, BOUND).expect("a storage");
    for _ in 0..2 {
        let waits = storage.prepare().await;
        assert!(matches!(waits, Err(StorageError::Preparing)), "{waits:?}");
        let size = file.metadata().expect("it is made").len();
        assert_eq!(size, 0, "there are no tables");
    }
    lock.unlock().expect("let go");
    storage.prepare().await.expect("prepared");
    storage.check().await.expect("there are tables");
}

#[tokio::test]
async fn a_database_is_prepared_by_nobody_while_somebody_has_its_lock_for_however_long() {
    let server = Postgres::start().await.expect("a server");
    let url = server.database().await.expect("a database");
    let mut other = PgConnection::connect(&url).await.expect("a connection");
    other.lock().await.expect("the lock of all migrations");
    let limit = Duration::from_secs(3);
    let storage = Storage::new(&url.parse().expect("a URL"), 1, limit).expect("a storage");
    // For longer than an operation may take.
    let waiting = "SELECT count(*) FROM pg_stat_activity \
        WHERE application_name = 'user-service' AND wait_event = 'advisory' \
        AND clock_timestamp() - query_start > interval '3200 ms'";
    let letting_go = async {
        until(BOUND, "it to wait", async || {
            let count = server.sql(&url, waiting).await?;
            anyhow::ensure!(count == "1", "{count} wait");
            Ok(())
        })
        .await
        .expect("it waits");
        let tables = server.sql(&url, "SELECT to_regclass('users') IS NULL");
        assert_eq!(tables.await.expect("an answer"), "t");
        other.unlock().await.expect("let go");
    };
    let (prepared, ()) = tokio::join!(timeout(2 * BOUND, storage.prepare()), letting_go);
    prepared.expect("in time").expect("prepared");
    storage.check().await.expect("there are tables");
}

#[tokio::test]
async fn what_is_prepared_is_used_whoever_has_the_lock_and_whatever_a_newer_binary_has_added() {
    let server = Postgres::start().await.expect("a server");
    let url = server.database().await.expect("a database");
    let storage_url = url.parse().expect("a URL");
    let first = prepared(&storage_url, BOUND).await;
    first.create(&new("ann")).await.expect("created");
    first
        .does(
            "INSERT INTO _sqlx_migrations VALUES (9999, 'of a newer binary', now(), true, '\\x00', 1)",
        )
        .await;
    let mut other = PgConnection::connect(&url).await.expect("a connection");
    other.lock().await.expect("the lock of all migrations");
    let second = Storage::new(&storage_url, 1, BOUND).expect("a storage");
    second.prepare().await.expect("there is nothing to do");
    second.set_usable(true);
    second.get("ann").await.expect("found");
}

#[tokio::test]
async fn a_file_to_which_a_newer_binary_has_added_is_used() {
    let place = Place::sqlite();
    let first = place.storage().await;
    first
        .does("INSERT INTO _sqlx_migrations VALUES (9999, 'of a newer binary', '', true, x'00', 1)")
        .await;
    let _second = place.storage().await;
}
