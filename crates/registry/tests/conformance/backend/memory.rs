//! The memory backend: "another process" is another clone.

use std::sync::Arc;

use registry::{Store, backend::memory::MemoryStore};

use crate::fixture::Fixture;

pub(crate) struct Memory(MemoryStore);

impl Fixture for Memory {
    async fn start() -> Self {
        Self(MemoryStore::new())
    }

    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.0.clone())
    }
}
