//! The command line.

use std::time::Duration;

use clap::Parser;
use service_kit::{ConfigArgs, terminal::Output};

use crate::command::Command;

const EXAMPLES: &str = "\
Examples:
  discovery services
      Who is registered in this user's file registry.
  discovery --registry etcd://10.0.0.1:2379,10.0.0.2:2379/shop list greeter
      The instances of greeter, with what an operator wants of them.
  discovery watch --output json | jq 'select(.event == \"removed\")'
      Who goes, as it happens.

`discovery COMMAND --help` explains a command. It exits with 0 when what was asked for was done,
with 1 when it was not, with 2 when the command line is wrong, with 130 when it was interrupted.";

/// Shows what is registered, and takes what is wanted of it.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// What to print: for a person, or JSON for a program
    #[arg(long, value_enum, default_value_t = Output::Table, global = true)]
    pub(crate) output: Output,

    /// How long the registry may take for each of its answers
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = positive_time, global = true)]
    pub(crate) registry_timeout: Duration,

    // The last, because its heading stands above everything that follows it.
    #[command(flatten)]
    pub(crate) sources: ConfigArgs,
}

pub(crate) fn positive_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("a time above 0 is expected, such as 10s".into()),
        Ok(time) => Ok(time),
        Err(_) => Err("a time is a number with its unit, such as 500ms, 10s or 2m".into()),
    }
}
