//! The file backend: one directory, opened anew by each "process".

use std::sync::Arc;

use registry::{Store, backend::file::FileStore};
use tempfile::TempDir;

use crate::fixture::Fixture;

pub(crate) struct File(TempDir);

impl Fixture for File {
    async fn start() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(FileStore::open(self.0.path().join("discovery")).expect("a file store"))
    }
}
