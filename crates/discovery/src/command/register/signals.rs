//! What signals say, beside a command and without one.

use std::{fs, future::poll_fn, str::FromStr, task::Poll};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tokio::{
    select,
    signal::unix::{self, SignalKind},
};

/// A signal that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// It asks for the end.
    End(Signal),
    /// It means nothing to this program, and may mean something to the command.
    PassOn(Signal),
}

/// SIGQUIT asks for the end as SIGTERM and SIGINT do, and so does SIGHUP where there is no command; else that is passed on, as
/// SIGUSR1 and SIGUSR2 are. One that this process was started to ignore, as `nohup` has it, means nothing here and to the command.
#[derive(Debug)]
pub(super) struct Signals {
    end: service_kit::Signals,
    others: Vec<(unix::Signal, Heard)>,
}

impl Signals {
    /// Those beside the signals that ask any program for its `end`.
    pub(super) fn listen(end: service_kit::Signals, has_command: bool) -> Result<Self> {
        let quit = (SignalKind::quit(), Heard::End(Signal::SIGQUIT));
        let (user1, user2) = (SignalKind::user_defined1(), SignalKind::user_defined2());
        let others = if has_command {
            vec![
                quit,
                (SignalKind::hangup(), Heard::PassOn(Signal::SIGHUP)),
                (user1, Heard::PassOn(Signal::SIGUSR1)),
                (user2, Heard::PassOn(Signal::SIGUSR2)),
            ]
        } else {
            vec![quit, (SignalKind::hangup(), Heard::End(Signal::SIGHUP))]
        };
        let ignored = ignored();
        let meant = others.into_iter().filter(|(kind, _)| {
            let bit = kind.as_raw_value() - 1;
            ignored >> bit & 1 == 0
        });
        let listen = |(kind, heard)| {
            let signal = unix::signal(kind).context("cannot listen for signals")?;
            Ok((signal, heard))
        };
        let others: Result<_> = meant.map(listen).collect();
        Ok(Self {
            end,
            others: others?,
        })
    }

    /// Waits for the next of them. Cancellation safe.
    pub(super) async fn next(&mut self) -> Heard {
        let other = poll_fn(|context| {
            let mut others = self.others.iter_mut();
            let heard = others.find_map(|(signal, heard)| {
                let has_come = signal.poll_recv(context).is_ready();
                has_come.then_some(*heard)
            });
            heard.map_or(Poll::Pending, Poll::Ready)
        });
        select! {
            name = self.end.next() => Heard::End(Signal::from_str(name).unwrap_or(Signal::SIGTERM)),
            heard = other => heard,
        }
    }
}

/// Which signals this process ignores, a bit for each from the lowest on (`SigIgn` in `/proc/self/status`); where the system does
/// not tell, none.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}
