//! The command that is registered, if there is one.

use std::{
    ffi::OsString,
    future::pending,
    os::unix::process::ExitStatusExt,
    process::{ExitCode, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tokio::{
    process::Command,
    select,
    time::{Instant, sleep_until},
};

use super::{
    job::Job,
    signals::{Heard, Signals},
};

/// A command that runs, or none. Dropped, it is killed with all that it has started.
#[derive(Debug)]
pub(super) struct Child(Option<Job>);

impl Child {
    /// Starts it.
    pub(super) fn start(command: &[OsString]) -> Result<Self> {
        let [program, arguments @ ..] = command else {
            return Ok(Self(None));
        };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        let started = Job::start(&mut command);
        let started = started.with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self(Some(started)))
    }

    /// Waits until it has ended, and gives its code; for ever where there is none. Cancellation safe.
    pub(super) async fn ended(&mut self) -> Result<ExitCode> {
        match &mut self.0 {
            Some(job) => Ok(code(job.ended().await.context("the command is lost")?)),
            None => pending().await,
        }
    }

    /// Passes a signal on, where there is somebody.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(job) = &self.0 {
            job.signal(signal);
        }
    }

    /// Passes the signal on, and each that comes after it, until the command has ended; kills all of it when that takes longer
    /// than `limit`. Gives its code, or `None` where there is none.
    pub(super) async fn stop(
        &mut self,
        signal: Signal,
        limit: Duration,
        signals: &mut Signals,
    ) -> Result<Option<ExitCode>> {
        if self.0.is_none() {
            return Ok(None);
        }
        self.signal(signal);
        let killed_at = Instant::now() + limit;
        let mut is_killed = false;
        loop {
            select! {
                code = self.ended() => return code.map(Some),
                Heard::End(signal) | Heard::PassOn(signal) = signals.next() => self.signal(signal),
                () = sleep_until(killed_at), if !is_killed => {
                    let limit = humantime::format_duration(limit);
                    super::say(&format!("the command has not ended within {limit}, and is killed"));
                    self.0.iter_mut().for_each(Job::kill);
                    is_killed = true;
                }
            }
        }
    }
}

/// As a shell has it: its own code, or 128 and the number of the signal that has ended it.
fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    let code = code.and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}
