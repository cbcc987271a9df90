//! A command and all that it starts: a process group of its own.

use std::{io, process::ExitStatus};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use tokio::process::{Child, Command};

/// A command that leads a process group. Once it has ended, and when this is dropped, what is left of the group is killed.
///
/// A signal goes to the command alone, whose business its own processes are while it runs. Because of the group a terminal's
/// Ctrl-C does not reach any of them beside that.
#[derive(Debug)]
pub(super) struct Job {
    command: Child,
    /// The group's id, which is the command's; `None` once nothing of the group is left.
    group: Option<Pid>,
}

impl Job {
    /// Starts it.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        let command = command.process_group(0).kill_on_drop(true).spawn()?;
        let id = command.id().map(|id| Pid::from_raw(id.cast_signed()));
        Ok(Self { command, group: id })
    }

    /// Waits until the command has ended. Cancellation safe.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.command.wait().await;
        self.kill();
        status
    }

    /// Passes a signal on to the command. One that has ended has no use for it.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(command) = self.group {
            told(kill(command, signal), signal);
        }
    }

    /// Kills what is left of the group.
    pub(super) fn kill(&mut self) {
        // Once: as soon as the last of the group is gone, its id may be another's.
        if let Some(group) = self.group.take() {
            told(killpg(group, Signal::SIGKILL), Signal::SIGKILL);
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.kill();
    }
}

fn told(sent: nix::Result<()>, signal: Signal) {
    match sent {
        // None of them is left.
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => tracing::warn!(%error, %signal, "a command could not be given a signal"),
    }
}
