//! The file backend: one directory, opened anew by each "process". What only this backend promises is in the modules
//! here.

mod crashes;
mod deaths;
mod descriptors;
mod directories;
mod documents;
mod full_disk;
mod intents;
mod leftovers;
mod odd_files;
mod polling;
mod process;
mod read_only;
mod writers;

use std::{fs, path::PathBuf, sync::Arc};

use registry::{Store, backend::file::FileStore};
use tempfile::TempDir;

use crate::fixture::{Fixture, Spoiled};

pub(crate) struct File(TempDir);

impl File {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    /// The registry's directory, which is not there before a store is opened.
    fn root(&self) -> PathBuf {
        self.0.path().join("discovery")
    }

    /// The file of the instance at 10.0.0.1 and `port` of `greeter`.
    fn record(&self, port: u16) -> PathBuf {
        self.root().join(format!("greeter/10.0.0.1:{port}.json"))
    }

    /// The file of the document of `service`.
    fn document(&self, service: &str) -> PathBuf {
        self.root().join(format!("_service_config/{service}.json"))
    }

    /// The file of the intent for the instance of that id of `service`.
    fn intent(&self, service: &str, id: &str) -> PathBuf {
        self.root().join(format!("_intent/{service}/{id}.json"))
    }

    fn store(&self) -> FileStore {
        FileStore::open(self.root()).expect("a file store")
    }
}

impl Fixture for File {
    async fn start() -> Self {
        Self::new()
    }

    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.store())
    }
}

/// The same, where nobody is told of changes.
pub(crate) struct Polled(File);

impl Fixture for Polled {
    async fn start() -> Self {
        Self(File::new())
    }

    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(FileStore::open_polling(self.0.root()).expect("a file store"))
    }
}

impl Spoiled for Polled {
    async fn spoil(&self, service: &str, id: &str) {
        self.0.spoil(service, id).await;
    }

    async fn spoil_document(&self, service: &str, text: &str) {
        self.0.spoil_document(service, text).await;
    }

    async fn spoil_intent(&self, service: &str, id: &str, text: &str) {
        self.0.spoil_intent(service, id, text).await;
    }
}

impl Spoiled for File {
    async fn spoil(&self, service: &str, id: &str) {
        let path = self.root().join(format!("{service}/{id}.json"));
        fs::write(path, "no instance").expect("a file");
    }

    async fn spoil_document(&self, service: &str, text: &str) {
        let beside = self.0.path().join("beside");
        fs::write(&beside, text).expect("a file");
        fs::rename(beside, self.document(service)).expect("a file");
    }

    async fn spoil_intent(&self, service: &str, id: &str, text: &str) {
        let beside = self.0.path().join("beside");
        fs::write(&beside, text).expect("a file");
        fs::rename(beside, self.intent(service, id)).expect("a file");
    }
}
