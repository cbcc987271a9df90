//! `greeter-server`: greets, and is found by its name.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    greeter_server::run(&greeter_server::Args::parse())
}
