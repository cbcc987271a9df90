//! The command that is registered, if there is one.

use std::{
    ffi::OsString,
    future::pending,
    os::unix::process::ExitStatusExt,
    process::{ExitCode, ExitStatus, Stdio},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use service_kit::Signals;
use tokio::{
    process::{self, Command},
    select,
    time::{Instant, sleep_until},
};

/// A command that runs, or none. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Child(Option<process::Child>);

impl Child {
    /// Starts it, in a process group of its own: a terminal's Ctrl-C is passed on once, and does not reach it beside that.
    pub(super) fn start(command: &[OsString]) -> Result<Self> {
        let [program, arguments @ ..] = command else {
            return Ok(Self(None));
        };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        command.process_group(0).kill_on_drop(true);
        let started = command.spawn();
        let started = started.with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self(Some(started)))
    }

    /// Waits until it has ended, and gives its code; for ever where there is none. Cancellation safe.
    pub(super) async fn ended(&mut self) -> Result<ExitCode> {
        match &mut self.0 {
            Some(child) => Ok(code(child.wait().await.context("the command is lost")?)),
            None => pending().await,
        }
    }

    /// Passes a signal on. One that has ended has no use for it.
    pub(super) fn signal(&self, signal: Signal) {
        let id = self.0.as_ref().and_then(process::Child::id);
        // Until it is waited for, its id is nobody else's.
        if let Some(id) = id.and_then(|id| i32::try_from(id).ok())
            && let Err(error) = kill(Pid::from_raw(id), signal)
        {
            tracing::warn!(%error, %signal, "the signal could not be passed on");
        }
    }

    /// Passes the signal of that name on, and each that comes after it, until the command has ended; kills it when that takes
    /// longer than `limit`. Gives its code, or success where there is none.
    pub(super) async fn stop(
        &mut self,
        name: &str,
        limit: Duration,
        signals: &mut Signals,
    ) -> Result<ExitCode> {
        if self.0.is_none() {
            return Ok(ExitCode::SUCCESS);
        }
        let pass_on = |child: &Self, name: &str| {
            child.signal(Signal::from_str(name).unwrap_or(Signal::SIGTERM));
        };
        pass_on(self, name);
        let killed_at = Instant::now() + limit;
        let mut is_killed = false;
        loop {
            select! {
                code = self.ended() => return code,
                name = signals.next() => pass_on(self, name),
                () = sleep_until(killed_at), if !is_killed => {
                    let limit = humantime::format_duration(limit);
                    super::say(&format!("the command has not ended within {limit}, and is killed"));
                    self.signal(Signal::SIGKILL);
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
