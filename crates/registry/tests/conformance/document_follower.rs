//! A watch of a document that is followed.

use futures_util::{StreamExt, stream::BoxStream};
use registry::{Document, FoundDocument, Store, StoreError};

use crate::fixture::{service, soon};

pub(crate) struct DocumentFollower(BoxStream<'static, Result<FoundDocument, StoreError>>);

impl DocumentFollower {
    pub(crate) fn start(store: &dyn Store, service_name: &str) -> Self {
        Self(store.watch_document(&service(service_name)))
    }

    /// The next item.
    pub(crate) async fn next_found(&mut self) -> FoundDocument {
        soon("what becomes of a document", self.0.next())
            .await
            .expect("a watch does not end")
            .expect("the watch goes on")
    }

    /// The next item, which is a document or says that there is none.
    pub(crate) async fn next(&mut self) -> Option<Document> {
        self.next_found().await.expect("a document or none")
    }
}
