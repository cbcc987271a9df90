//! What other systems have written is found, in one dialect or several.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, stream::BoxStream};
use registry::{
    Change, Snapshot, Status, Store as _, StoreError,
    backend::etcd::{EtcdOptions, EtcdStore},
    dialect::{Dialect, DialectName, Dialects},
};
use testkit::etcd::Cluster;

use crate::support::{etcdctl, hold, instance, service, shared, soon};

/// A key and a value as each system writes them, for `NAME` at 10.0.0.N:50051.
const FOREIGN: [(DialectName, &str, &str); 9] = [
    (
        DialectName::Etcd,
        "NAME/10.0.0.1:50051",
        r#"{"Op":0,"Addr":"10.0.0.1:50051","Metadata":null}"#,
    ),
    (
        DialectName::Qsf,
        "/qsf.service/NAME/node1",
        r#"{"addr":"10.0.0.2:50051","metadata":{"weight":"3"}}"#,
    ),
    (
        DialectName::GrpcLb,
        "/backend/services/NAME/1.0/node1",
        r#"{"InstanceId":"node1","Name":"NAME","Version":"1.0","Address":"10.0.0.3:50051","Metadata":{"weight":["3"]}}"#,
    ),
    (
        DialectName::GoZero,
        "NAME/7587862094834521857",
        "10.0.0.4:50051",
    ),
    (
        DialectName::Kratos,
        "/microservices/NAME/1",
        r#"{"id":"1","name":"NAME","version":"","metadata":{},"endpoints":["grpc://10.0.0.5:50051?isSecure=false"]}"#,
    ),
    (
        DialectName::Kitex,
        "kitex/registry-etcd/NAME/10.0.0.6:50051",
        r#"{"network":"tcp","address":"10.0.0.6:50051","weight":10,"tags":{}}"#,
    ),
    (
        DialectName::GoMicro,
        "/micro/registry/NAME/NAME-1",
        r#"{"name":"NAME","version":"latest","metadata":{},"endpoints":[],"nodes":[{"id":"NAME-1","address":"10.0.0.7:50051","metadata":{}}]}"#,
    ),
    (
        DialectName::Gopherex,
        "/gopherex/services/NAME/10.0.0.8:50051",
        r#"{"ID":"10.0.0.8:50051","Name":"NAME","Addr":"10.0.0.8:50051","MetaData":{}}"#,
    ),
    (DialectName::Plain, "NAME", "10.0.0.9:50051"),
];

fn reading(cluster: &Cluster, dialects: impl IntoIterator<Item = impl Into<Dialect>>) -> EtcdStore {
    let options: EtcdOptions = cluster.url("").parse().expect("a URL");
    let dialects = Dialects::new(dialects).expect("they go together");
    EtcdStore::new(options.with_dialects(dialects))
}

async fn put(cluster: &Cluster, key: &str, value: &str) {
    etcdctl(cluster, &["put", "--", key, value]).await;
}

/// Puts the key of each dialect below a namespace, which may be none, and gives the addresses that are there then.
async fn put_all(cluster: &Cluster, namespace: &str, name: &str) -> BTreeSet<String> {
    for (_, key, value) in FOREIGN {
        let own = |text: &str| text.replace("NAME", name);
        put(cluster, &(namespace.to_owned() + &own(key)), &own(value)).await;
    }
    let numbers = 1..=FOREIGN.len();
    numbers.map(|n| format!("10.0.0.{n}:50051")).collect()
}

fn addresses(snapshot: &Snapshot) -> BTreeSet<String> {
    let instances = snapshot.instances();
    instances.map(|i| i.address().to_string()).collect()
}

async fn found(store: &EtcdStore, name: &str) -> BTreeSet<String> {
    addresses(&store.list(&service(name)).await.expect("a list"))
}

struct Followed {
    watch: BoxStream<'static, Result<Change, StoreError>>,
    snapshot: Snapshot,
}

impl Followed {
    fn start(store: &EtcdStore, name: &str) -> Self {
        Self {
            watch: store.watch(&service(name)),
            snapshot: Snapshot::empty(service(name)),
        }
    }

    async fn until_listed(&mut self) {
        let first = soon("a list", self.watch.next()).await.expect("an item");
        self.snapshot = self.snapshot.clone().apply(first.expect("no error"));
    }

    /// Follows until the instances are as wanted.
    async fn until(&mut self, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> &Snapshot {
        while !wanted(&self.snapshot) {
            let change = soon(what, self.watch.next()).await.expect("an item");
            let before = self.snapshot.clone();
            self.snapshot = before.apply(change.expect("no error"));
        }
        &self.snapshot
    }
}

#[tokio::test]
async fn keys_that_each_system_has_written_are_found() {
    let cluster = shared().await;
    let all = put_all(&cluster, "", "dialects-each").await;
    for (number, (dialect, ..)) in FOREIGN.iter().enumerate() {
        let store = reading(&cluster, [*dialect]);
        let mut own = BTreeSet::from([format!("10.0.0.{}:50051", number + 1)]);
        if *dialect == DialectName::Plain {
            // A go-zero instance is nothing but an address either.
            own.insert("10.0.0.4:50051".into());
        }
        assert_eq!(found(&store, "dialects-each").await, own, "{dialect}");
    }
    let store = reading(&cluster, DialectName::ALL);
    assert_eq!(found(&store, "dialects-each").await, all);
    assert_eq!(store.undecodable(), 0, "what one cannot read is another's");
}

#[tokio::test]
async fn services_are_listed_in_each_dialect() {
    let cluster = shared().await;
    put_all(&cluster, "", "dialects-services").await;
    let name = service("dialects-services");
    for dialect in DialectName::ALL {
        let services = reading(&cluster, [dialect]).services().await;
        let services = services.expect("services");
        assert_eq!(
            services.iter().filter(|s| **s == name).count(),
            1,
            "{dialect}"
        );
    }
    let services = reading(&cluster, DialectName::ALL).services().await;
    let services = services.expect("services");
    let ours = services
        .iter()
        .filter(|s| s.as_str().contains("dialects-services"));
    assert_eq!(ours.collect::<Vec<_>>(), [&name]);
}

#[tokio::test]
async fn what_is_seen_in_two_dialects_is_one_instance_and_the_first_wins() {
    let cluster = shared().await;
    let (etcd, kratos) = ("dialects-two/a", "/microservices/dialects-two/b");
    put(&cluster, etcd, r#"{"Addr":"10.0.0.1:1"}"#).await;
    let value =
        r#"{"id":"b","name":"dialects-two","version":"v2","endpoints":["grpc://10.0.0.1:1"]}"#;
    put(&cluster, kratos, value).await;
    let names = [DialectName::Etcd, DialectName::Kratos];
    let mut first = Followed::start(&reading(&cluster, names), "dialects-two");
    let ids = |snapshot: &Snapshot| {
        let ids = snapshot.instances().map(|i| i.id.to_string());
        ids.collect::<Vec<_>>()
    };
    let is = |wanted: &'static str| move |snapshot: &Snapshot| ids(snapshot) == [wanted];
    first.until("one instance", is("a")).await;
    let other_way_round = reading(&cluster, names.into_iter().rev());
    let mut last = Followed::start(&other_way_round, "dialects-two");
    let snapshot = last.until("one instance", is("b")).await;
    let winner = snapshot.instances().next().expect("one");
    assert_eq!(winner.version.as_deref(), Some("v2"));
    assert_eq!(winner.origin().expect("it was read").key.as_ref(), kratos);

    etcdctl(&cluster, &["del", etcd]).await;
    first.until("the other stays", is("b")).await;
    put(&cluster, etcd, r#"{"Addr":"10.0.0.1:1"}"#).await;
    first.until("the first wins again", is("a")).await;
    etcdctl(&cluster, &["del", kratos]).await;
    last.until("the other stays", is("a")).await;
    etcdctl(&cluster, &["del", etcd]).await;
    first.until("nobody", Snapshot::is_empty).await;
    last.until("nobody", Snapshot::is_empty).await;
}

#[tokio::test]
async fn a_dialect_without_ids_keeps_an_instance_until_its_last_key_is_gone() {
    let cluster = shared().await;
    let store = reading(&cluster, [DialectName::GoZero]);
    for number in ["1", "2"] {
        put(&cluster, &format!("dialects-zero/{number}"), "10.0.0.1:1").await;
    }
    let mut followed = Followed::start(&store, "dialects-zero");
    followed.until("one instance", |all| all.len() == 1).await;
    etcdctl(&cluster, &["del", "dialects-zero/1"]).await;
    put(&cluster, "dialects-zero/3", "10.0.0.3:1").await;
    let snapshot = followed.until("the third", |all| all.len() == 2).await;
    assert!(addresses(snapshot).contains("10.0.0.1:1"));
    put(&cluster, "dialects-zero/3", "10.0.0.4:1").await;
    let moved = |all: &Snapshot| addresses(all).contains("10.0.0.4:1");
    let snapshot = followed.until("the third has moved", moved).await;
    assert_eq!(snapshot.len(), 2);
    put(&cluster, "dialects-zero/3", "nowhere").await;
    followed
        .until("it cannot be read", |all| all.len() == 1)
        .await;
    assert_eq!(store.undecodable(), 1);
    etcdctl(&cluster, &["del", "dialects-zero/2"]).await;
    followed.until("nobody", Snapshot::is_empty).await;
}

#[tokio::test]
async fn a_key_that_no_dialect_can_read_is_counted_once() {
    let cluster = shared().await;
    let store = reading(&cluster, DialectName::ALL);
    put(&cluster, "dialects-bad/1", "nothing").await;
    put(&cluster, "/microservices/dialects-bad/1", "{").await;
    put(&cluster, "dialects-bad/2", "10.0.0.1:1").await;
    let other = r#"{"id":"2","name":"other","endpoints":["grpc://10.0.0.2:1"]}"#;
    put(&cluster, "/microservices/dialects-bad/2", other).await;
    for _ in 0..2 {
        assert_eq!(found(&store, "dialects-bad").await.len(), 1);
        assert_eq!(store.undecodable(), 3);
    }
}

#[tokio::test]
async fn another_prefix_leads_elsewhere() {
    let cluster = shared().await;
    let value = r#"{"id":"1","name":"dialects-prefix","endpoints":["grpc://10.0.0.1:1"]}"#;
    put(&cluster, "/elsewhere/dialects-prefix/1", value).await;
    let usual = Dialect::from(DialectName::Kratos);
    let moved = usual.clone().with_prefix("/elsewhere").expect("a prefix");
    assert!(
        found(&reading(&cluster, [usual]), "dialects-prefix")
            .await
            .is_empty()
    );
    let store = reading(&cluster, [moved]);
    assert_eq!(found(&store, "dialects-prefix").await.len(), 1);
    let services = store.services().await.expect("services");
    assert_eq!(services, [service("dialects-prefix")]);
}

#[tokio::test]
async fn one_of_ours_keeps_its_status_among_theirs() {
    let cluster = shared().await;
    let store = reading(&cluster, [DialectName::Kratos, DialectName::Etcd]);
    let writer = reading(&cluster, [DialectName::Etcd]);
    let ours = instance("dialects-status", 1);
    let mut held = hold(&writer, &ours, 60).await;
    let value = r#"{"id":"1","name":"dialects-status","endpoints":["grpc://10.0.0.8:1"]}"#;
    put(&cluster, "/microservices/dialects-status/1", value).await;
    let mut followed = Followed::start(&store, "dialects-status");
    followed.until("both", |all| all.len() == 2).await;
    let draining = ours.clone().with_status(Status::Draining);
    held.update(draining).await.expect("it is updated");
    let drains = |all: &Snapshot| all.instances().any(|i| i.status == Status::Draining);
    let snapshot = followed.until("ours drains", drains).await;
    assert_eq!(snapshot.len(), 2);
    held.release().await.expect("it is ours");
    followed.until("theirs stays", |all| all.len() == 1).await;
}

#[tokio::test]
async fn each_dialect_is_told_of_by_a_watch_that_all_in_a_namespace_share() {
    let cluster = shared().await;
    let options: EtcdOptions = cluster.url("dialects-ns").parse().expect("a URL");
    let all = Dialects::new(DialectName::ALL).expect("they go together");
    let options = options.with_shared_watch().expect("it has a namespace");
    let store = EtcdStore::new(options.with_dialects(all));
    let mut followed = Followed::start(&store, "greeter");
    let mut longer = Followed::start(&store, "greeter-2");
    followed.until_listed().await;
    longer.until_listed().await;
    let there = put_all(&cluster, "dialects-ns/", "greeter").await;
    put_all(&cluster, "dialects-ns/", "greeter-2").await;
    for both in [&mut followed, &mut longer] {
        both.until("all", |all| addresses(all) == there).await;
    }
    for (_, key, _) in FOREIGN {
        let key = format!("dialects-ns/{}", key.replace("NAME", "greeter"));
        etcdctl(&cluster, &["del", &key]).await;
    }
    followed.until("nobody", Snapshot::is_empty).await;
    assert_eq!(found(&store, "greeter-2").await, there);
    assert_eq!(store.undecodable(), 0);
}
