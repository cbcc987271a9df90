//! A watch of intents that is followed.

use futures_util::{StreamExt, stream::BoxStream};
use registry::{Intents, Store, StoreError};

use crate::fixture::{service, soon};

pub(crate) struct IntentFollower(BoxStream<'static, Result<Intents, StoreError>>);

impl IntentFollower {
    pub(crate) fn start(store: &dyn Store, service_name: &str) -> Self {
        Self(store.watch_intents(&service(service_name)))
    }

    /// The next item.
    pub(crate) async fn next(&mut self) -> Intents {
        soon("what becomes of intents", self.0.next())
            .await
            .expect("a watch does not end")
            .expect("the watch goes on")
    }

    /// Waits until just these are told.
    pub(crate) async fn until(&mut self, wanted: &Intents) {
        while self.next().await != *wanted {}
    }
}
