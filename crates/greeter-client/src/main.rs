//! `greeter-client`: calls the greeter by its name, and shows what came of it.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    greeter_client::run(&greeter_client::Args::parse())
}
