//! The directory as the [`Store`] that it is: each step named in its error, and done where it may wait for a disk.

use std::{io, sync::Arc};

use futures_util::{
    FutureExt, StreamExt, TryFutureExt, TryStreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};

use super::{FileStore, blocking, hold::FileHold, watch::Watcher};
use crate::{
    Change, Document, FoundDocument, Hold, HoldRequest, InstanceId, Intent, Intents, ServiceName,
    Snapshot, Store, StoreError,
};

impl Store for FileStore {
    fn url(&self) -> &str {
        &self.shared.url
    }

    fn hold(&self, request: HoldRequest) -> BoxFuture<'_, Result<Box<dyn Hold>, StoreError>> {
        async move {
            let hold = FileHold::take(&self.shared, request).await?;
            Ok(Box::new(hold) as Box<dyn Hold>)
        }
        .boxed()
    }

    fn list<'a>(&'a self, service: &'a ServiceName) -> BoxFuture<'a, Result<Snapshot, StoreError>> {
        let (shared, listed) = (Arc::clone(&self.shared), service.clone());
        blocking(move || shared.list(&listed))
            .map(|listed| {
                listed.map_err(|error| StoreError::ListFailed {
                    service: service.clone(),
                    source: error.into(),
                })
            })
            .boxed()
    }

    fn watch(&self, service: &ServiceName) -> BoxStream<'static, Result<Change, StoreError>> {
        let watcher = Watcher::new(Arc::clone(&self.shared), service.clone());
        stream::unfold(Some(watcher), |watcher| async {
            let mut watcher = watcher?;
            let item = watcher.next().await;
            let rest = item.is_ok().then_some(watcher);
            Some((item, rest))
        })
        .boxed()
    }

    fn services(&self) -> BoxFuture<'_, Result<Vec<ServiceName>, StoreError>> {
        let shared = Arc::clone(&self.shared);
        let listed = blocking(move || shared.services());
        listed.map_err(services_failed).boxed()
    }

    fn known_services(&self) -> BoxFuture<'_, Result<Vec<ServiceName>, StoreError>> {
        let shared = Arc::clone(&self.shared);
        let listed = blocking(move || shared.known_services());
        listed.map_err(services_failed).boxed()
    }

    fn read_document<'a>(
        &'a self,
        service: &'a ServiceName,
    ) -> BoxFuture<'a, Result<Option<Document>, StoreError>> {
        async {
            let document = self.shared.document(service);
            let found = blocking(move || document.read()).await;
            let failed = |source| StoreError::ReadDocumentFailed {
                service: service.clone(),
                source,
            };
            found
                .map_err(|error| failed(error.into()))?
                .map_err(|invalid| failed(invalid.into()))
        }
        .boxed()
    }

    fn watch_document(
        &self,
        service: &ServiceName,
    ) -> BoxStream<'static, Result<FoundDocument, StoreError>> {
        let found = self.shared.follow(self.shared.document(service));
        let service = service.clone();
        let failed = move |error: io::Error| StoreError::WatchDocumentFailed {
            service: service.clone(),
            source: error.into(),
        };
        found.map_err(failed).boxed()
    }

    fn set_document<'a>(
        &'a self,
        service: &'a ServiceName,
        document: Document,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let set = self.shared.document(service).set(&document).await;
            set.map_err(|error| StoreError::SetDocumentFailed {
                service: service.clone(),
                source: error.into(),
            })
        }
        .boxed()
    }

    fn delete_document<'a>(
        &'a self,
        service: &'a ServiceName,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async {
            let deleted = self.shared.document(service).delete().await;
            deleted.map_err(|error| StoreError::DeleteDocumentFailed {
                service: service.clone(),
                source: error.into(),
            })
        }
        .boxed()
    }

    fn list_intents<'a>(
        &'a self,
        service: &'a ServiceName,
    ) -> BoxFuture<'a, Result<Intents, StoreError>> {
        async {
            let intents = self.shared.intents(service);
            let listed = blocking(move || intents.read()).await;
            listed.map_err(|error| StoreError::ListIntentsFailed {
                service: service.clone(),
                source: error.into(),
            })
        }
        .boxed()
    }

    fn watch_intents(
        &self,
        service: &ServiceName,
    ) -> BoxStream<'static, Result<Intents, StoreError>> {
        let intents = self.shared.follow(self.shared.intents(service));
        let service = service.clone();
        let failed = move |error: io::Error| StoreError::WatchIntentsFailed {
            service: service.clone(),
            source: error.into(),
        };
        intents.map_err(failed).boxed()
    }

    fn set_intent<'a>(
        &'a self,
        service: &'a ServiceName,
        id: &'a InstanceId,
        intent: Intent,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            let set = self.shared.intents(service).set(id, &intent).await;
            set.map_err(|error| StoreError::SetIntentFailed {
                service: service.clone(),
                id: id.clone(),
                source: error.into(),
            })
        }
        .boxed()
    }

    fn delete_intent<'a>(
        &'a self,
        service: &'a ServiceName,
        id: &'a InstanceId,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async {
            let deleted = self.shared.intents(service).delete(id).await;
            deleted.map_err(|error| StoreError::DeleteIntentFailed {
                service: service.clone(),
                id: id.clone(),
                source: error.into(),
            })
        }
        .boxed()
    }

    fn undecodable(&self) -> u64 {
        self.shared.undecodable.count()
    }
}

fn services_failed(error: io::Error) -> StoreError {
    let source = error.into();
    StoreError::ServicesFailed { source }
}
