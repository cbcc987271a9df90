//! `discovery`: shows an operator what is registered, and takes what is wanted of it.

mod args;
mod command;
mod form;
mod instance_name;
mod session;

use std::{convert::Infallible, process::ExitCode};

use anyhow::Result;
use clap::Parser;
use service_kit::{ClientConfig, KitArgs, Sections, Signals, config::Flags};
use tokio::select;

use crate::{args::Args, session::Session};

/// What a shell reports of a process that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let args = Args::parse();
    let kit = KitArgs::from(args.sources.clone());
    let defaults = Ok::<_, Infallible>(ClientConfig::default());
    service_kit::run(&kit, defaults, Flags::new(), async |config, _telemetry| {
        operate(&args, &config).await
    })
}

async fn operate(args: &Args, config: &ClientConfig) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let session = Session::open(config.registry(), args.output, args.registry_timeout)?;
    let done = args.command.run(&session);
    select! {
        done = done => done.map(|()| ExitCode::SUCCESS),
        // What goes on until somebody ends it has done what it was asked for.
        _ = signals.next() => Ok(if args.command.is_endless() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(INTERRUPTED)
        }),
    }
}
