//! One suite for both storages: a SQLite file, and a real PostgreSQL server that all of its tests share.

/// Has each of these done in both storages.
macro_rules! on_both {
    ($($case:ident)*) => {
        mod sqlite {
            $(#[tokio::test] async fn $case() { super::$case(super::Place::sqlite()).await; })*
        }
        mod postgres {
            $(#[tokio::test] async fn $case() { super::$case(super::Place::postgres().await).await; })*
        }
    };
}

mod down;
mod place;
mod preparing;
mod requests;

use std::collections::BTreeSet;

use tokio::task::JoinSet;

use super::{Change, HashChange, NewUser, Pool, StorageError, UserRow, on};
use place::{BOUND, CONNECTIONS, Place};

on_both! {
    a_user_is_found_as_it_was_created
    a_name_is_given_once_however_many_want_it_at_once
    an_update_changes_what_it_names
    of_updates_with_one_etag_one_is_made
    an_etag_that_nobody_can_have_is_a_stale_one
    a_password_goes_with_its_user
    a_hash_is_replaced_by_another_of_the_same_password_only
    who_is_there_all_the_time_is_listed_once_while_others_come_and_go
    a_prefix_selects_by_bytes
    several_processes_prepare_one_storage_and_have_one_key
    a_statement_that_fails_costs_no_other_operation_its_connection
    a_storage_whose_connections_are_all_in_use_is_busy_and_well
}

fn new(id: &str) -> NewUser {
    NewUser {
        user: UserRow {
            id: id.to_owned(),
            display_name: format!("{id} of Åland"),
            email: format!("{id}@example.com"),
            etag: etag(0xa11),
            create_time: 1_700_000_000_000_000,
            update_time: 1_700_000_000_000_000,
        },
        hash: None,
        request_id: None,
    }
}

/// One that a user can have.
fn etag(number: u32) -> String {
    format!("{number:032x}")
}

fn email(email: &str, etag: &str) -> Change {
    Change {
        email: Some(email.to_owned()),
        etag: etag.to_owned(),
        now: 1_800_000_000_000_000,
        ..Change::default()
    }
}

async fn a_user_is_found_as_it_was_created(place: Place) {
    let storage = place.storage().await;
    let created = storage.create(&new("ann")).await.expect("created");
    assert_eq!(created, new("ann").user);
    assert_eq!(storage.get("ann").await.expect("found"), created);
    let nobody = storage.get("bob").await;
    assert!(matches!(nobody, Err(StorageError::NotFound)), "{nobody:?}");
}

async fn a_name_is_given_once_however_many_want_it_at_once(place: Place) {
    let mut wanting = JoinSet::new();
    for number in 0..8 {
        let storage = place.storage().await;
        let mut wanted = new("ann");
        wanted.user.etag = number.to_string();
        wanting.spawn(async move { storage.create(&wanted).await });
    }
    let outcomes = wanting.join_all().await;
    let given: Vec<_> = outcomes.iter().flatten().collect();
    assert_eq!(given.len(), 1);
    for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert!(
            matches!(refused, StorageError::AlreadyExists),
            "{refused:?}"
        );
    }
    let found = place.storage().await.get("ann").await.expect("found");
    assert_eq!(found, *given[0]);
}

async fn an_update_changes_what_it_names(place: Place) {
    let storage = place.storage().await;
    let before = storage.create(&new("ann")).await.expect("created");
    let change = email("new@example.com", "2");
    let after = storage.update("ann", &before.etag, &change).await;
    let expected = UserRow {
        email: "new@example.com".to_owned(),
        etag: "2".to_owned(),
        update_time: change.now,
        ..before.clone()
    };
    assert_eq!(after.expect("changed"), expected);
    assert_eq!(storage.get("ann").await.expect("found"), expected);
    let stale = storage.update("ann", &before.etag, &change).await;
    assert!(matches!(stale, Err(StorageError::Stale)), "{stale:?}");
    let nobody = storage.update("bob", "", &change).await;
    assert!(matches!(nobody, Err(StorageError::NotFound)), "{nobody:?}");
}

async fn of_updates_with_one_etag_one_is_made(place: Place) {
    let storage = place.storage().await;
    let before = storage.create(&new("ann")).await.expect("created");
    let mut wanting = JoinSet::new();
    for number in 0..8 {
        let (storage, etag) = (place.storage().await, before.etag.clone());
        let change = email(&format!("{number}@example.com"), &number.to_string());
        wanting.spawn(async move { storage.update("ann", &etag, &change).await });
    }
    let outcomes = wanting.join_all().await;
    let made: Vec<_> = outcomes.iter().flatten().collect();
    assert_eq!(made.len(), 1);
    for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert!(matches!(refused, StorageError::Stale), "{refused:?}");
    }
    assert_eq!(storage.get("ann").await.expect("found"), *made[0]);
}

async fn an_etag_that_nobody_can_have_is_a_stale_one(place: Place) {
    let storage = place.storage().await;
    let before = storage.create(&new("ann")).await.expect("created");
    for etag in ["\0", "*", &before.etag.to_uppercase(), &"a".repeat(100_000)] {
        let change = email("new@example.com", "2");
        for (id, is_there) in [("ann", true), ("bob", false)] {
            let updated = storage.update(id, etag, &change).await.map(drop);
            let deleted = storage.delete(id, etag).await;
            for refused in [updated, deleted] {
                let as_told = match &refused {
                    Err(StorageError::Stale) => is_there,
                    Err(StorageError::NotFound) => !is_there,
                    _ => false,
                };
                assert!(as_told, "{refused:?} of {id}");
            }
        }
    }
    assert_eq!(storage.get("ann").await.expect("found"), before);
}

async fn a_password_goes_with_its_user(place: Place) {
    let storage = place.storage().await;
    let with_password = NewUser {
        hash: Some("hash 1".to_owned()),
        ..new("ann")
    };
    let password = |hash: Option<&str>| Change {
        hash: hash.map_or(HashChange::Remove, |hash| HashChange::Set(hash.to_owned())),
        ..email("ann@example.com", "2")
    };
    storage.create(&with_password).await.expect("created");
    let hash = async || storage.hash("ann").await.expect("an answer");
    assert_eq!(hash().await.as_deref(), Some("hash 1"));
    storage
        .update("ann", "", &password(Some("hash 2")))
        .await
        .expect("changed");
    assert_eq!(hash().await.as_deref(), Some("hash 2"));
    storage
        .update("ann", "", &email("new@example.com", "3"))
        .await
        .expect("changed");
    assert_eq!(hash().await.as_deref(), Some("hash 2"));
    storage
        .update("ann", "", &password(None))
        .await
        .expect("taken away");
    assert_eq!(hash().await, None);
    storage
        .update("ann", "", &password(Some("hash 3")))
        .await
        .expect("given again");
    let stale = storage.delete("ann", &etag(9)).await;
    assert!(matches!(stale, Err(StorageError::Stale)), "{stale:?}");
    storage.delete("ann", "").await.expect("deleted");
    let nobody = storage.delete("ann", "").await;
    assert!(matches!(nobody, Err(StorageError::NotFound)), "{nobody:?}");
    storage.create(&new("ann")).await.expect("created again");
    assert_eq!(hash().await, None);
}

async fn a_hash_is_replaced_by_another_of_the_same_password_only(place: Place) {
    let storage = place.storage().await;
    let with_password = NewUser {
        hash: Some("hash 1".to_owned()),
        ..new("ann")
    };
    let created = storage.create(&with_password).await.expect("created");
    let hash = async || storage.hash("ann").await.expect("an answer");
    let replaced = storage.replace_hash("ann", "hash 1", "hash 2").await;
    replaced.expect("replaced");
    assert_eq!(hash().await.as_deref(), Some("hash 2"));
    // The password was changed while the old one was looked at.
    let too_late = storage.replace_hash("ann", "hash 1", "hash 3").await;
    too_late.expect("nothing is done");
    assert_eq!(hash().await.as_deref(), Some("hash 2"));
    assert_eq!(storage.get("ann").await.expect("found"), created);
}

async fn who_is_there_all_the_time_is_listed_once_while_others_come_and_go(place: Place) {
    let storage = place.storage().await;
    let staying: BTreeSet<_> = (0..20).map(|n| format!("stays-{n:02}")).collect();
    for id in &staying {
        storage.create(&new(id)).await.expect("created");
    }
    let coming = tokio::spawn({
        let storage = place.storage().await;
        async move {
            for n in 0..40 {
                let (before, between) = (format!("a-{n}"), format!("stays-{:02}-x", n % 20));
                storage.create(&new(&before)).await.expect("created");
                storage.create(&new(&between)).await.ok();
                storage.delete(&between, "").await.expect("deleted");
            }
        }
    });
    let mut listed = Vec::new();
    let mut after = String::new();
    loop {
        let page = storage.list(&after, "", 3).await.expect("a page");
        let Some(last) = page.last() else { break };
        after.clone_from(&last.id);
        listed.extend(page.into_iter().map(|user| user.id));
    }
    coming.await.expect("they came and went");
    assert!(listed.is_sorted(), "{listed:?}");
    let stayed = listed.iter().filter(|id| staying.contains(*id));
    assert!(stayed.eq(&staying), "{listed:?}");
}

async fn a_prefix_selects_by_bytes(place: Place) {
    let storage = place.storage().await;
    for id in [
        "an", "an-a", "an0", "ana", "ann", "anna", "anz", "ao", "a", "b",
    ] {
        storage.create(&new(id)).await.expect("created");
    }
    let ids = async |after: &str, prefix: &str| -> Vec<String> {
        let page = storage.list(after, prefix, 100).await.expect("a page");
        page.into_iter().map(|user| user.id).collect()
    };
    let all = [
        "a", "an", "an-a", "an0", "ana", "ann", "anna", "anz", "ao", "b",
    ];
    assert_eq!(ids("", "").await, all);
    assert_eq!(ids("", "an").await, all[1..8]);
    assert_eq!(ids("an0", "an").await, all[4..8]);
    assert_eq!(ids("", "ann").await, ["ann", "anna"]);
    assert_eq!(ids("", "c").await, [""; 0]);
}

async fn several_processes_prepare_one_storage_and_have_one_key(place: Place) {
    // Each tries again for as long as another is at it.
    let key = async || place.storage().await.signing_key().await.expect("a key");
    let (a, b, c, d) = tokio::join!(key(), key(), key(), key());
    let keys = BTreeSet::from([a, b, c, d]);
    assert_eq!(keys.len(), 1);
    assert_eq!(keys.first().map(Vec::len), Some(32));
}

async fn a_statement_that_fails_costs_no_other_operation_its_connection(place: Place) {
    let storage = place.storage().await;
    storage.leaves_idle(2).await;
    let failed: Result<(), StorageError> = async {
        on!(operation storage, |connection| Ok(sqlx::query("SELECT nothing FROM users")
            .execute(&mut *connection)
            .await
            .map(drop)?))
    }
    .await;
    assert!(matches!(failed, Err(StorageError::Failed(_))), "{failed:?}");
    assert_eq!(storage.count_idle(), 1, "its own is closed, and no other");
}

async fn a_storage_whose_connections_are_all_in_use_is_busy_and_well(place: Place) {
    let storage = place.storage().await;
    storage.create(&new("ann")).await.expect("created");
    let all = storage.all_turns().acquire_many(CONNECTIONS).await;
    storage.check().await.expect("it is well");
    drop(all);
    storage.get("ann").await.expect("found");

    let hasty = place.hasty_storage();
    let _all = hasty.all_turns().acquire_many(CONNECTIONS).await;
    let busy = hasty.get("ann").await.expect_err("all are in use");
    assert!(matches!(busy, StorageError::Busy), "{busy:?}");
    assert!(!busy.is_trouble(), "nobody has to look at it");
}

#[tokio::test]
async fn each_connection_to_a_file_has_what_a_file_needs() {
    let place = Place::sqlite();
    let storage = place.storage().await;
    let Pool::Sqlite { turns, aside, .. } = &storage.0.pool else {
        panic!("it is a file's");
    };
    let limit = i64::try_from(BOUND.as_millis()).expect("a moment");
    for (turns, connections) in [(turns, CONNECTIONS), (aside, 1)] {
        // All at a time, so that none is looked at twice.
        let mut taken = Vec::new();
        for _ in 0..connections {
            taken.push(turns.take(BOUND).await.expect("a turn"));
        }
        for connection in &mut taken {
            let mode = sqlx::query_scalar("PRAGMA journal_mode");
            let mode: String = mode.fetch_one(&mut **connection).await.expect("a mode");
            assert_eq!(mode, "wal");
            for (pragma, expected) in [
                ("PRAGMA foreign_keys", 1),
                ("PRAGMA busy_timeout", limit),
                // FULL: what was committed outlives a power failure.
                ("PRAGMA synchronous", 2),
            ] {
                let value = sqlx::query_scalar(pragma);
                let value: i64 = value.fetch_one(&mut **connection).await.expect("a number");
                assert_eq!(value, expected, "{pragma}");
            }
        }
    }
}

#[tokio::test]
async fn a_statement_is_prepared_once_for_a_connection() {
    let place = Place::postgres().await;
    let storage = place.storage().await;
    storage.create(&new("ann")).await.expect("created");
    for _ in 0..2 {
        storage.get("ann").await.expect("found");
    }
    let Pool::Postgres { turns, .. } = &storage.0.pool else {
        panic!("it is a database's");
    };
    // What the last operation has left.
    let mut connection = turns.take(BOUND).await.expect("a turn");
    let count = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%FROM users WHERE id = $1'";
    let count: i64 = sqlx::query_scalar(count)
        .fetch_one(&mut *connection)
        .await
        .expect("a number");
    assert_eq!(count, 1);
}
