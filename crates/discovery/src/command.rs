//! The commands: each its arguments, and what it does.

mod intent;
mod intents;
mod list;
mod resolve;
mod service_config;
mod services;
mod watch;
mod why;

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
    /// Has an instance be given nothing new, until it is undrained
    Drain(intent::DrainArgs),
    /// Takes back that an instance drains
    Undrain(intent::UndrainArgs),
    /// Gives an instance another share of the calls than it says itself
    Weight(intent::WeightArgs),
    /// Drains an instance for good, registered or not
    Deregister(intent::DeregisterArgs),
    /// Shows what operators want of instances
    Intents(intents::IntentsArgs),
    /// Shows what a caller of a target would get, and the instances' shares
    Resolve(resolve::ResolveArgs),
    /// Explains an instance: where it stands, what holds it there, and who sees it
    Why(why::WhyArgs),
    /// Shows, writes or deletes the service config that callers of a service go by
    Config(service_config::ServiceConfigArgs),
}

impl Command {
    /// Does it, and prints what came of it.
    pub(crate) async fn run(&self, session: &Session) -> Result<()> {
        match self {
            Self::Services(args) => args.run(session).await,
            Self::List(args) => args.run(session).await,
            Self::Watch(args) => args.run(session).await,
            Self::Drain(args) => args.run(session).await,
            Self::Undrain(args) => args.run(session).await,
            Self::Weight(args) => args.run(session).await,
            Self::Deregister(args) => args.run(session).await,
            Self::Intents(args) => args.run(session).await,
            Self::Resolve(args) => args.run(session).await,
            Self::Why(args) => args.run(session).await,
            Self::Config(args) => args.run(session).await,
        }
    }

    /// Whether it goes on until somebody ends it.
    pub(crate) fn is_endless(&self) -> bool {
        matches!(self, Self::Watch(_))
    }
}
