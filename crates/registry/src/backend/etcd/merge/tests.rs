use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*, sample::select};

use super::{Arc, Event, Instance, InstanceId, Merge, Update};
use crate::{Address, Change, Revision, ServiceName, Snapshot};

const DIALECTS: usize = 3;

fn service() -> ServiceName {
    ServiceName::new("greeter").expect("a name")
}

fn instance(id: &str, port: u16, key: &str, revision: u64) -> Arc<Instance> {
    let address = Address::new(&format!("10.0.0.7:{port}")).expect("an address");
    let id = InstanceId::new(id).expect("an id");
    let instance = Instance::new(service(), address).with_id(id);
    Arc::new(instance.read_at(key, Revision(revision)))
}

fn put(key: &str, id: &str, port: u16, revision: u64) -> Event {
    Event::Put(key.into(), instance(id, port, key, revision))
}

/// Who is seen: each id with its address's port and its key.
fn seen(merge: &Merge) -> Vec<(&str, u16, &str)> {
    let seen = merge.seen.iter().map(|(id, instance)| {
        assert_eq!(*id, instance.id);
        let origin = instance.origin().expect("it was read");
        let port = instance.address().port().expect("a port");
        (id.as_str(), port, &*origin.key)
    });
    seen.collect()
}

#[test]
fn an_instance_in_two_dialects_is_one_and_the_first_wins() {
    let mut merge = Merge::default();
    let told = merge.apply(1, put("kratos/a", "a", 1, 7));
    assert!(matches!(&told[..], [Update::Upsert(i)] if i.id.as_str() == "a"));
    let told = merge.apply(0, put("etcd/a", "a", 1, 5));
    assert!(matches!(&told[..], [Update::Upsert(_)]), "{told:?}");
    assert_eq!(seen(&merge), [("a", 1, "etcd/a")]);
    assert_eq!(merge.apply(1, put("kratos/a", "a", 1, 9)), []);
    merge.apply(0, Event::Gone("etcd/a".into()));
    assert_eq!(seen(&merge), [("a", 1, "kratos/a")]);
    let told = merge.apply(1, Event::Gone("kratos/a".into()));
    assert!(matches!(&told[..], [Update::Remove(_)]), "{told:?}");
    assert_eq!(seen(&merge), []);
}

#[test]
fn one_that_has_no_id_is_known_by_its_address() {
    let mut merge = Merge::default();
    merge.apply(1, put("zero/7", "10.0.0.7:1", 1, 1));
    merge.apply(0, put("etcd/a", "a", 1, 2));
    assert_eq!(seen(&merge), [("a", 1, "etcd/a")]);
    let told = merge.apply(0, Event::Gone("etcd/a".into()));
    assert_eq!(told.len(), 2, "one goes and the other comes: {told:?}");
    assert_eq!(seen(&merge), [("10.0.0.7:1", 1, "zero/7")]);
}

#[test]
fn two_keys_of_one_address_are_one_instance_until_both_are_gone() {
    let mut merge = Merge::default();
    merge.apply(0, put("zero/7", "10.0.0.7:1", 1, 1));
    merge.apply(0, put("zero/8", "10.0.0.7:1", 1, 2));
    assert_eq!(seen(&merge), [("10.0.0.7:1", 1, "zero/8")]);
    merge.apply(0, Event::Gone("zero/8".into()));
    assert_eq!(seen(&merge), [("10.0.0.7:1", 1, "zero/7")]);
    merge.apply(0, Event::Gone("zero/7".into()));
    assert_eq!(seen(&merge), []);
}

#[test]
fn two_at_different_addresses_are_two_though_their_ids_are_one() {
    let mut merge = Merge::default();
    merge.apply(1, put("kratos/a", "a", 2, 9));
    merge.apply(0, put("etcd/a", "a", 1, 1));
    let both = [("10.0.0.7:2", 2, "kratos/a"), ("a", 1, "etcd/a")];
    assert_eq!(seen(&merge), both);
    merge.apply(0, Event::Gone("etcd/a".into()));
    assert_eq!(seen(&merge), [("a", 2, "kratos/a")]);
}

#[test]
fn in_one_dialect_the_ids_tell_instances_apart() {
    let mut merge = Merge::default();
    merge.apply(0, put("etcd/a", "a", 1, 1));
    merge.apply(0, put("etcd/b", "b", 1, 2));
    merge.apply(1, put("kratos/c", "c", 1, 3));
    assert_eq!(seen(&merge), [("a", 1, "etcd/a"), ("b", 1, "etcd/b")]);
}

#[test]
fn a_new_list_of_one_dialect_leaves_the_others_as_they_are() {
    let mut merge = Merge::default();
    merge.apply(0, put("etcd/a", "a", 1, 1));
    merge.apply(1, put("kratos/a", "a", 1, 2));
    merge.apply(1, put("kratos/b", "b", 2, 3));
    let listed = vec![("kratos/c".into(), instance("c", 3, "kratos/c", 4))];
    let told = merge.apply(1, Event::Listed(listed));
    assert!(matches!(&told[..], [Update::Reset(all)] if all.len() == 2));
    assert_eq!(seen(&merge), [("a", 1, "etcd/a"), ("c", 3, "kratos/c")]);
    merge.apply(0, Event::Listed(Vec::new()));
    assert_eq!(seen(&merge), [("c", 3, "kratos/c")]);
}

/// What happens: in which dialect, at which key, and what is there then.
#[derive(Debug, Clone)]
enum Step {
    Put(usize, String, String, u16),
    Gone(usize, String),
    List(usize, Vec<(String, String, u16)>),
}

fn entry() -> impl Strategy<Value = (String, String, u16)> {
    let ids = vec!["a", "b", "10.0.0.7:1", "10.0.0.7:2", "10.0.0.7:3"];
    ("[k-n]", select(ids), 1..4_u16).prop_map(|(key, id, port)| (key, id.to_owned(), port))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..DIALECTS, entry()).prop_map(|(rank, (key, id, port))| Step::Put(rank, key, id, port)),
        3 => (0..DIALECTS, "[k-n]").prop_map(|(rank, key)| Step::Gone(rank, key)),
        1 => (0..DIALECTS, vec(entry(), 0..4)).prop_map(|(rank, all)| Step::List(rank, all)),
    ]
}

/// What is there, by dialect and key: an id, a port, and when it was written.
type There = BTreeMap<(usize, String), (String, u16, u64)>;

/// What is to be seen, by the rules alone: each id with its port and its key.
fn expected(there: &There) -> BTreeMap<String, (u16, String)> {
    let mut entries: Vec<_> = there.iter().collect();
    entries.sort_by_key(|((rank, key), (_, _, written))| (*rank, u64::MAX - written, key.clone()));
    let first_at = |port| {
        entries
            .iter()
            .find(|(_, (_, p, _))| *p == port)
            .expect("one")
            .0
            .0
    };
    let seen = entries
        .iter()
        .filter(|((rank, _), (_, port, _))| first_at(*port) == *rank);
    let seen: Vec<_> = seen.collect();
    let mut owners = BTreeMap::<String, (u16, String)>::new();
    for ((_, key), (id, port, _)) in &seen {
        owners.entry(id.clone()).or_insert((*port, key.clone()));
    }
    let mut all = owners.clone();
    for ((_, key), (id, port, _)) in &seen {
        if owners[id].0 != *port {
            all.entry(format!("10.0.0.7:{port}"))
                .or_insert((*port, key.clone()));
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn however_it_came_about_the_rules_tell_who_is_seen(steps in vec(step(), 0..24)) {
        let (mut merge, mut there) = (Merge::default(), There::new());
        let mut snapshot = Snapshot::empty(service());
        for (step, revision) in steps.into_iter().zip(1..) {
            let (rank, event) = match step {
                Step::Put(rank, key, id, port) => {
                    let event = put(&key, &id, port, revision);
                    there.insert((rank, key), (id, port, revision));
                    (rank, event)
                }
                Step::Gone(rank, key) => {
                    there.remove(&(rank, key.clone()));
                    (rank, Event::Gone(key.into()))
                }
                Step::List(rank, all) => {
                    there.retain(|(other, _), _| *other != rank);
                    // A list has each key once.
                    let all: BTreeMap<_, _> = all.into_iter().map(|(key, id, port)| (key, (id, port))).collect();
                    let listed = all.iter().map(|(key, (id, port))| (key.as_str().into(), instance(id, *port, key, revision)));
                    let event = Event::Listed(listed.collect());
                    there.extend(all.into_iter().map(|(key, (id, port))| ((rank, key), (id, port, revision))));
                    (rank, event)
                }
            };
            let updates = merge.apply(rank, event);
            let told: BTreeSet<_> = updates.iter().map(|update| format!("{update:?}")).collect();
            prop_assert_eq!(told.len(), updates.len(), "nothing is told twice");
            snapshot = snapshot.apply(Change { revision: Revision(revision), updates });
            let found: BTreeMap<_, _> = seen(&merge).into_iter().map(|(id, port, key)| (id.to_owned(), (port, key.to_owned()))).collect();
            prop_assert_eq!(found, expected(&there));
            let told: Vec<_> = snapshot.instances().cloned().collect();
            let seen: Vec<_> = merge.seen.values().cloned().collect();
            prop_assert_eq!(told, seen, "what was told leads to what is seen");
        }
    }

    #[test]
    fn what_the_first_dialect_says_is_never_changed_by_another(steps in vec(step(), 0..24)) {
        let (mut alone, mut all) = (Merge::default(), Merge::default());
        for (step, revision) in steps.into_iter().zip(1..) {
            let Step::Put(rank, key, id, port) = step else { continue };
            if rank == 0 {
                alone.apply(0, put(&key, &id, port, revision));
            }
            all.apply(rank, put(&key, &id, port, revision));
        }
        for (id, instance) in &alone.seen {
            let other = all.seen.get(id).expect("it is still there");
            // Only an address that stands for an id gives way to somebody who has it for his own.
            let stands_in = InstanceId::from(instance.address()) == *id && other.address() != instance.address();
            prop_assert!(other == instance || stands_in, "{other:?}");
        }
    }
}
