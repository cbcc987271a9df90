//! The commands: each its arguments, and what it does.

mod list;
mod services;
mod watch;

use anyhow::Result;
use clap::Subcommand;

use crate::session::Session;

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the services that have an instance, and how their instances are
    Services(services::ServicesArgs),
    /// Shows the instances of a service
    List(list::ListArgs),
    /// Shows what happens to instances, a line an event, until Ctrl-C
    Watch(watch::WatchArgs),
}

impl Command {
    /// Does it, and prints what came of it.
    pub(crate) async fn run(&self, session: &Session) -> Result<()> {
        match self {
            Self::Services(args) => args.run(session).await,
            Self::List(args) => args.run(session).await,
            Self::Watch(args) => args.run(session).await,
        }
    }

    /// Whether it goes on until somebody ends it.
    pub(crate) fn is_endless(&self) -> bool {
        matches!(self, Self::Watch(_))
    }
}
