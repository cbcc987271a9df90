//! The signals that mean nothing to this program, and may mean something to the command.

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tokio::{
    select,
    signal::unix::{self, SignalKind},
};

/// SIGHUP, SIGUSR1 and SIGUSR2, which no longer end the process.
#[derive(Debug)]
pub(super) struct Relay {
    hangup: unix::Signal,
    user1: unix::Signal,
    user2: unix::Signal,
}

impl Relay {
    pub(super) fn listen() -> Result<Self> {
        let listen = |kind| unix::signal(kind).context("cannot listen for signals");
        Ok(Self {
            hangup: listen(SignalKind::hangup())?,
            user1: listen(SignalKind::user_defined1())?,
            user2: listen(SignalKind::user_defined2())?,
        })
    }

    /// Waits for the next of them. Cancellation safe.
    pub(super) async fn next(&mut self) -> Signal {
        select! {
            _ = self.hangup.recv() => Signal::SIGHUP,
            _ = self.user1.recv() => Signal::SIGUSR1,
            _ = self.user2.recv() => Signal::SIGUSR2,
        }
    }
}
