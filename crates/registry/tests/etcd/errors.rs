//! What keeps a cluster from being used, told apart by type.

use registry::{
    Store as _, StoreError,
    backend::etcd::{EtcdError, EtcdStore},
};

use crate::support::{cluster, soon, store};

async fn error_of(store: &EtcdStore) -> StoreError {
    soon("a failure", store.services())
        .await
        .expect_err("a failure")
}

#[tokio::test]
async fn a_member_that_is_not_there_and_one_that_hangs_are_told_apart() {
    let mut cluster = cluster(1).await;
    let store = store(&cluster);
    store.services().await.expect("a list");
    cluster.pause(0).expect("it is paused");
    let hangs = error_of(&store).await;
    assert!(
        matches!(EtcdError::of(&hangs), Some(EtcdError::TimedOut)),
        "{hangs:?}"
    );
    cluster.kill(0).await.expect("it is killed");
    let absent = error_of(&store).await;
    assert!(
        matches!(EtcdError::of(&absent), Some(EtcdError::Unreachable(_))),
        "{absent:?}"
    );
    let text = registry::one_line(&absent);
    assert!(
        text.contains("cannot connect: ") && text.contains("refused"),
        "{text}"
    );
}

#[tokio::test]
async fn a_host_that_has_no_address_is_one_that_cannot_be_reached() {
    let store = EtcdStore::new("etcd://no-such-host.invalid:2379".parse().expect("a URL"));
    let error = error_of(&store).await;
    assert!(
        matches!(EtcdError::of(&error), Some(EtcdError::Unreachable(_))),
        "{error:?}"
    );
}
