//! The commands: each its arguments, and what it does.

pub(crate) mod certs;
pub(crate) mod completions;
mod doctor;
mod export;
mod import;
mod intent;
mod intents;
mod list;
pub(crate) mod man;
mod register;
mod resolve;
mod service_config;
mod services;
mod watch;
mod why;

use std::{future::Future, process::ExitCode};

use anyhow::Result;
use clap::Subcommand;
use service_kit::{Signals, config::AdminListen};
use tokio::select;

use crate::session::Session;

/// What a shell reports of a process that Ctrl-C ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// What can be asked of a registry.
#[derive(Debug, Subcommand)]
pub(crate) enum Operation {
    /// Shows the services that have an instance, and how their instances are
    Services(services::ServicesArgs),
    /// Shows the instances of a service
    List(list::ListArgs),
    /// Shows what happens to instances, a line an event, until Ctrl-C
    Watch(watch::WatchArgs),
    /// Registers what cannot do it itself, while it lives and is healthy
    Register(Box<register::RegisterArgs>),
    /// Has an instance be given nothing new, until it is undrained
    Drain(intent::DrainArgs),
    /// Takes back that an instance drains
    Undrain(intent::UndrainArgs),
    /// Gives an instance another share of the calls than it says itself
    Weight(intent::WeightArgs),
    /// Drains an instance for good
    Deregister(intent::DeregisterArgs),
    /// Shows what operators want of instances
    Intents(intents::IntentsArgs),
    /// Shows what a caller of a target would get, and the instances' shares
    Resolve(resolve::ResolveArgs),
    /// Explains an instance: where it stands, what holds it there, and who sees it
    Why(why::WhyArgs),
    /// Examines the registry and all that is in it; each finding with what to do
    Doctor(doctor::DoctorArgs),
    /// Shows, writes or deletes the service config that callers of a service go by
    Config(service_config::ServiceConfigArgs),
    /// Writes the registry as JSON, or as targets for Prometheus
    Export(export::ExportArgs),
    /// Puts what `export` has written into a registry
    Import(import::ImportArgs),
}

impl Operation {
    /// Where it is to serve the admin page, if it goes on and that is asked for.
    pub(crate) fn admin(&self) -> Option<AdminListen> {
        match self {
            Self::Watch(args) => args.admin,
            Self::Register(args) => args.admin,
            Self::Export(args) => args.admin,
            Self::Import(args) => args.admin,
            _ => None,
        }
    }

    /// Does it, prints what came of it, and says with which code to exit.
    pub(crate) async fn run(&self, session: &Session, signals: Signals) -> Result<ExitCode> {
        match self {
            Self::Services(args) => once(args.run(session), signals).await,
            Self::List(args) => once(args.run(session), signals).await,
            Self::Watch(args) => until_ended(session, args.begin(session), signals).await,
            Self::Register(args) => args.run(session, signals).await,
            Self::Drain(args) => once(args.run(session), signals).await,
            Self::Undrain(args) => once(args.run(session), signals).await,
            Self::Weight(args) => once(args.run(session), signals).await,
            Self::Deregister(args) => once(args.run(session), signals).await,
            Self::Intents(args) => once(args.run(session), signals).await,
            Self::Resolve(args) => once(args.run(session), signals).await,
            Self::Why(args) => once(args.run(session), signals).await,
            Self::Doctor(args) => once(args.run(session), signals).await,
            Self::Config(args) => once(args.run(session), signals).await,
            Self::Export(args) => match args.every {
                Some(every) => until_ended(session, args.begin(session, every), signals).await,
                None => once(args.run(session), signals).await,
            },
            Self::Import(args) => args.run(session, signals).await,
        }
    }
}

/// What ends by itself; interrupted, it has not done what it was asked for.
async fn once(done: impl Future<Output = Result<()>>, mut signals: Signals) -> Result<ExitCode> {
    select! {
        done = done => done.map(|()| ExitCode::SUCCESS),
        _ = signals.next() => Ok(ExitCode::from(INTERRUPTED)),
    }
}

/// What goes on until somebody ends it, which is as it was asked for once it has `begun`: then it is ready too.
async fn until_ended(
    session: &Session,
    begun: impl Future<Output = Result<impl Future<Output = Result<()>>>>,
    mut signals: Signals,
) -> Result<ExitCode> {
    let goes_on = select! {
        begun = begun => begun?,
        _ = signals.next() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    let _page = session.tell(None, || Ok(())).await?;
    select! {
        done = goes_on => done.map(|()| ExitCode::SUCCESS),
        _ = signals.next() => Ok(ExitCode::SUCCESS),
    }
}
