//! Who asks for the end.

use anyhow::Result;
use tokio::{
    select,
    signal::unix::{Signal, SignalKind, signal},
};

/// Ctrl-C and SIGTERM.
pub(crate) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    pub(crate) fn listen() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Resolves when one of them comes. Cancellation safe.
    pub(crate) async fn comes(&mut self) {
        select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
