//! Something that a server is asked over one connection, for as long as nobody wants it otherwise.

use std::{convert::Infallible, future::pending, pin::Pin, sync::Arc};

use crate::transport::Connection;

/// A call of the worker's own: what it asks, over which connection, and the call.
pub(super) struct Followed<Q>(Option<Running<Q>>);

struct Running<Q> {
    question: Arc<Q>,
    connection: Arc<Connection>,
    run: Pin<Box<dyn Future<Output = Infallible> + Send>>,
}

impl<Q> Default for Followed<Q> {
    fn default() -> Self {
        Self(None)
    }
}

impl<Q> Followed<Q> {
    /// Asks `question` over `connection` by `ask`; nothing when either is missing. Who is asked so already goes on
    /// undisturbed.
    pub(super) fn follow<F>(
        &mut self,
        question: Option<Arc<Q>>,
        connection: Option<&Arc<Connection>>,
        ask: impl FnOnce(Arc<Q>, Arc<Connection>) -> F,
    ) where
        F: Future<Output = Infallible> + Send + 'static,
    {
        let (Some(question), Some(connection)) = (question, connection) else {
            self.0 = None;
            return;
        };
        if !self.0.as_ref().is_some_and(|running| {
            Arc::ptr_eq(&running.question, &question)
                && Arc::ptr_eq(&running.connection, connection)
        }) {
            self.0 = Some(Running {
                run: Box::pin(ask(Arc::clone(&question), Arc::clone(connection))),
                question,
                connection: Arc::clone(connection),
            });
        }
    }

    /// Goes on asking. Cancellation safe: it goes on where it was.
    pub(super) async fn run(&mut self) -> Infallible {
        match &mut self.0 {
            Some(running) => (&mut running.run).await,
            None => pending().await,
        }
    }
}
