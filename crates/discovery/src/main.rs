//! `discovery`: shows an operator what is registered, and takes what is wanted of it.

mod args;
mod command;
mod exported;
mod form;
mod holding;
mod input;
mod instance_name;
mod session;

use std::{convert::Infallible, process::ExitCode};

use anyhow::Result;
use clap::Parser;
use service_kit::{ClientConfig, KitArgs, Sections, Signals, config::Flags};

use crate::{args::Args, session::Session};

fn main() -> ExitCode {
    let args = Args::parse();
    let kit = KitArgs::from(args.sources.clone());
    let defaults = Ok::<_, Infallible>(ClientConfig::default());
    service_kit::run(&kit, defaults, Flags::new(), async |config, _telemetry| {
        operate(&args, &config).await
    })
}

async fn operate(args: &Args, config: &ClientConfig) -> Result<ExitCode> {
    let signals = Signals::listen()?;
    let session = Session::open(config.registry(), args.output, args.registry_timeout)?;
    args.command.run(&session, signals).await
}
