//! The main job, shown: greeters that register themselves, a client that finds them by name, what happens to its calls while
//! they come and go, and a second service that calls them as well. Exits with 0 when not one call failed.

mod narrator;
mod stage;
mod story;
mod users;
mod viewer;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::{narrator::Narrator, stage::Stage};

/// What a shell reports of a process that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Shows greeters that find one another by name, and a client that does not notice when they come and go.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Where the greeters register: a directory of this machine, or an etcd cluster of three members
    #[arg(value_enum, default_value_t = Kind::File)]
    registry: Kind,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    File,
    Etcd,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    // Whatever has been started is owned by the future that loses, and ends with it.
    let told = tokio::select! {
        told = show(args.registry) => told,
        interrupted = interrupted() => interrupted,
    };
    told.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

async fn show(registry: Kind) -> anyhow::Result<ExitCode> {
    let narrator = Narrator::new();
    narrator.step(
        "greeters that are found by their name, and a client that does not notice who comes and goes",
    );
    let stage = match registry {
        Kind::File => Stage::file()?,
        Kind::Etcd => Stage::etcd(&narrator).await?,
    };
    story::tell(stage, &narrator).await
}

async fn interrupted() -> anyhow::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    eprintln!("interrupted: ending what was started");
    Ok(ExitCode::from(INTERRUPTED))
}
