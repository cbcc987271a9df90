//! `discovery`: shows an operator what is registered, and takes what is wanted of it.

mod args;
mod command;
mod exported;
mod form;
mod holding;
mod input;
mod instance_name;
mod page;
mod reach;
mod session;
mod telling;
mod wanted;
mod words;

use std::{
    convert::Infallible,
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Result;
use clap::Parser;
use service_kit::{ClientConfig, KitArgs, Signals, Telemetry};

use crate::{
    args::{Args, Command},
    command::Operation,
    session::Session,
};

fn main() -> ExitCode {
    let args = Args::parse();
    match &args.command {
        Command::Operation(operation) => {
            let kit = KitArgs::from(args.sources.clone());
            let defaults = Ok::<_, Infallible>(ClientConfig::default());
            let flags = telling::flags(operation.admin());
            service_kit::run(&kit, defaults, flags, async |config, telemetry| {
                operate(&args, operation, &config, telemetry).await
            })
        }
        Command::Server(args) => greeter_server::run(args),
        Command::Client(args) => greeter_client::run(args),
        Command::Certs(certs) => told(certs.run(args.output)),
        Command::Completions(args) => told(args.run()),
        Command::Man(args) => told(args.run()),
    }
}

async fn operate(
    args: &Args,
    operation: &Operation,
    config: &ClientConfig,
    telemetry: Telemetry,
) -> Result<ExitCode> {
    let signals = Signals::listen()?;
    let session = Session::open(config, telemetry, args.output, args.registry_timeout)?;
    operation.run(&session, signals).await
}

/// The exit code of what needs no configuration, and the error on stderr.
fn told(done: Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Stderr may be closed; the exit code still tells.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
