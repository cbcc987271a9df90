use std::{
    fs,
    os::unix::fs::{MetadataExt, chown, symlink},
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::time::{Duration, Instant, interval, timeout};

use super::{Cache, CacheFile, KeptDocument, LEFT, Slot, form::Kept};
use crate::{
    Address, Change, Document, Instance, Intent, Revision, ServiceName, Snapshot, Status, Update,
    Weight, intent::Merged,
};

const URL: &str = "etcd://10.0.0.1:2379/eu";

fn service() -> ServiceName {
    ServiceName::new("shop/greeter").expect("a name")
}

fn instance(port: u16) -> Instance {
    let address = Address::new(&format!("10.0.0.7:{port}")).expect("an address");
    Instance::new(service(), address).read_at(format!("greeter/{port}"), Revision(7))
}

/// Three instances, one of them drained by an operator, who wants something of a fourth as well.
fn merged() -> Merged {
    let said = Change {
        revision: Revision(9),
        updates: vec![Update::Reset(
            (1..=3).map(|port| Arc::new(instance(port))).collect(),
        )],
    };
    let heavy = Weight::new(5).expect("a weight");
    let wanted = [
        (instance(2).id, Intent::from(Status::Draining)),
        (instance(4).id, Intent::from(heavy)),
    ];
    let wanted = wanted.map(|(id, intent)| (id, intent.read_at("_intent/greeter", Revision(8))));
    Merged::new(
        Snapshot::empty(service()).apply(said),
        wanted.into_iter().collect(),
    )
}

struct Fixture {
    directory: TempDir,
    cache: Cache,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let cache = Cache::new(&directory.path().join("cache"), URL);
        Self { directory, cache }
    }

    fn file<T: Kept>(&self) -> CacheFile<T> {
        self.cache.file(&service())
    }

    /// A file whose text was changed.
    fn with(&self, change: impl FnOnce(String) -> String) -> CacheFile<Merged> {
        let file = self.file::<Merged>();
        file.write(&merged()).expect("it is written");
        let text = fs::read_to_string(file.path()).expect("it is there");
        fs::write(file.path(), change(text)).expect("it is written");
        file
    }
}

fn refused(file: &CacheFile<Merged>) -> String {
    match file.read() {
        Err(reason) => reason,
        Ok(read) => panic!("it is used: {read:?}"),
    }
}

#[test]
fn what_was_kept_is_read_as_it_was_and_can_be_given_back_to_itself() {
    let fixture = Fixture::new();
    let file = fixture.file::<Merged>();
    assert!(file.read().expect("there is none").is_none());
    let kept = merged();
    file.write(&kept).expect("it is written");
    let mut read = file.read().expect("it is one").expect("it is there");
    assert_eq!(
        (read.snapshot(), read.intents()),
        (kept.snapshot(), kept.intents())
    );
    let origins = |merged: &Merged| {
        let instances = merged.snapshot().instances();
        let intents = merged.intents().iter();
        let instances = instances.map(|i| i.origin().cloned());
        instances
            .chain(intents.map(|(_, i)| i.origin().cloned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(origins(&read), origins(&kept));
    read.wanted([].into_iter().collect());
    let drained = read.snapshot().get(&instance(2).id).expect("it is there");
    assert_eq!(drained.status, Status::Serving);
}

#[test]
fn a_document_is_kept_and_so_is_that_there_is_none() {
    let fixture = Fixture::new();
    let file = fixture.file::<KeptDocument>();
    assert!(file.read().expect("nothing is known").is_none());
    let text = Document::new("{\"ü\": 1}\n").expect("a document");
    for document in [Some(text.read_at("config", Revision(3))), None] {
        file.write(&KeptDocument(document.clone()))
            .expect("it is written");
        let KeptDocument(read) = file.read().expect("it is one").expect("it is there");
        assert_eq!(read, document);
        let origin = |document: &Option<Document>| document.as_ref()?.origin().cloned();
        assert_eq!(origin(&read), origin(&document));
    }
}

#[test]
fn what_is_kept_is_for_nobody_else_to_read() {
    let fixture = Fixture::new();
    let file = fixture.file::<Merged>();
    file.write(&merged()).expect("it is written");
    let mode = |path: &std::path::Path| fs::metadata(path).expect("it is there").mode() & 0o777;
    assert_eq!(mode(file.path()), 0o600);
    assert_eq!(mode(&fixture.directory.path().join("cache")), 0o700);
    let name = "url=etcd:%2F%2F10.0.0.1:2379%2Feu/instances/shop%2Fgreeter.json";
    assert_eq!(
        file.path(),
        fixture.directory.path().join("cache").join(name)
    );
}

#[test]
fn registries_and_services_are_never_mixed_up() {
    let fixture = Fixture::new();
    let directory = fixture.directory.path().join("cache");
    // The last two have one directory: names are not that long.
    let long = "m".repeat(300);
    let urls = [
        URL,
        "etcd://10.0.0.1:2379",
        "..",
        &long,
        &format!("{long}m"),
    ];
    let files = urls.map(|url| Cache::new(&directory, url).file::<Merged>(&service()));
    for (number, file) in files.iter().enumerate() {
        let read = file.read();
        assert!(!matches!(read, Ok(Some(_))), "{number}: {read:?}");
        file.write(&merged()).expect("it is written");
        assert!(file.path().starts_with(&directory), "{file:?}");
        assert!(matches!(file.read(), Ok(Some(_))), "{number}");
    }
    assert!(refused(&files[3]).contains("it is of shop/greeter in mmm"));
    let other = ServiceName::new("other").expect("a name");
    let other = fixture.cache.file::<Merged>(&other);
    fs::copy(files[0].path(), other.path()).expect("it is copied");
    assert!(refused(&other).contains("it is of shop/greeter in etcd://10.0.0.1"));
}

#[test]
fn what_cannot_be_used_says_why_and_is_replaced() {
    let fixture = Fixture::new();
    let used = |file: &CacheFile<Merged>| matches!(file.read(), Ok(Some(_)));
    for (part, instead, reason) in [
        (
            "{\"v\":1,\"registry\"",
            "{\"v\":2,\"registry\"",
            "version 2",
        ),
        ("10.0.0.7:1", "nowhere", "nowhere"),
        ("draining", "drained", "drained"),
        ("\"instances\"", "\"others\"", "missing field"),
        ("10.0.0.7:4", "_", "\"_\""),
    ] {
        let file = fixture.with(|text| text.replace(part, instead));
        let said = refused(&file);
        assert!(said.contains(reason), "{said}");
        file.write(&merged()).expect("it is written");
        assert!(used(&file), "{reason}");
    }
    for length in [0, 1, 100] {
        let file = fixture.with(|text| text[..length].to_owned());
        assert!(refused(&file).contains("EOF"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_changes_all_the_time_is_written_once_a_second() {
    let fixture = Fixture::new();
    let mut slot = Slot::new(Some(fixture.cache.clone()), service());
    let end = Instant::now() + Duration::from_millis(10_500);
    let mut changes = interval(Duration::from_millis(50));
    let mut writes = Vec::new();
    while Instant::now() < end {
        tokio::select! {
            _ = changes.tick() => slot.now_differs(),
            () = slot.is_due() => {
                writes.push(Instant::now());
                slot.write(merged());
            }
        }
    }
    assert_eq!(writes.len(), 11, "{writes:?}");
    let apart = writes.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(apart.min() >= Some(Duration::from_secs(1)), "{writes:?}");
    assert!(slot.load().await.is_some());
    // The last change is written as well, and then there is nothing more.
    slot.now_differs();
    slot.is_due().await;
    slot.write(merged());
    let nothing = timeout(Duration::from_mins(1), slot.is_due()).await;
    assert!(nothing.is_err(), "nothing has changed");
}

#[test]
fn what_somebody_else_has_put_there_is_not_used() {
    let fixture = Fixture::new();
    let file = fixture.with(|text| text);
    let elsewhere = fixture.directory.path().join("elsewhere");
    fs::rename(file.path(), &elsewhere).expect("it is there");
    symlink(&elsewhere, file.path()).expect("a link");
    refused(&file);
    fs::remove_file(file.path()).expect("it is there");
    fs::create_dir(file.path()).expect("a directory");
    assert!(refused(&file).contains("no regular file"));
    fs::remove_dir(file.path()).expect("it is there");
    fs::rename(&elsewhere, file.path()).expect("it is there");
    assert!(matches!(file.read(), Ok(Some(_))));
    // Only root may give a file away.
    if nix::unistd::geteuid().is_root() {
        chown(file.path(), Some(1001), None).expect("root may");
        assert!(refused(&file).contains("belongs to user 1001"));
    }
}

#[test]
fn what_a_killed_process_left_unfinished_is_removed_by_a_later_one() {
    let fixture = Fixture::new();
    let directory = &fixture.cache.directory;
    fs::create_dir_all(directory).expect("a directory");
    let put = |name: &str, age| -> PathBuf {
        let path = directory.join(name);
        let file = fs::File::create(&path).expect("a file");
        let written = SystemTime::now() - age;
        file.set_modified(written).expect("it is ours");
        path
    };
    let old = put(".AbCdEf.tmp", LEFT * 2);
    let kept = [put(".GhIjKl.tmp", LEFT / 2), put("notes.tmp", LEFT * 2)];
    fixture.file().write(&merged()).expect("it is written");
    assert!(!old.exists());
    assert!(kept.iter().all(|path| path.exists()));
}

proptest! {
    #[test]
    fn whatever_is_there_is_read_or_refused(text in any::<Vec<u8>>(), at in any::<prop::sample::Index>()) {
        let fixture = Fixture::new();
        let file = fixture.file::<Merged>();
        file.write(&merged()).expect("it is written");
        let mut whole = fs::read(file.path()).expect("it is there");
        let at = at.index(whole.len());
        whole.splice(at..whole.len().min(at + text.len()), text);
        fs::write(file.path(), whole).expect("it is written");
        let _ = file.read();
    }
}
