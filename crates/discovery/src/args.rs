//! The command line.

use std::time::Duration;

use clap::{Parser, Subcommand};
use service_kit::{ConfigArgs, terminal::Output};

use crate::command::{Operation, certs::CertsArgs, completions::CompletionsArgs, man::ManArgs};

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

const SERVER: &str = "\
Examples:
  discovery server
      A greeter on a free port of 127.0.0.1, in this user's file registry. Start as many as you like.
  discovery server --listen 0.0.0.0:50051 --registry etcd://10.0.0.1:2379
      A greeter for other hosts, in an etcd.

It is greeter-server: on SIGTERM or Ctrl-C callers are told to go elsewhere and calls in flight are
finished; a second one ends it at once.";

const CLIENT: &str = "\
Examples:
  discovery client
      Once a second, whoever has registered as greeter.
  discovery client --concurrency 16 --duration 10s
      As many calls as 16 callers can make in ten seconds, with a table at the end.

It is greeter-client: it exits with 0 when no call failed.";

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Operation(Operation),
    /// Greets, for a first try: registers as greeter, and answers
    #[command(after_help = SERVER)]
    Server(greeter_server::Args),
    /// Calls the greeters, for a first try
    #[command(after_help = CLIENT)]
    Client(greeter_client::Args),
    /// Makes a certificate authority for development, and certificates for services
    Certs(CertsArgs),
    /// Prints what a shell needs to complete this command line
    Completions(CompletionsArgs),
    /// Prints or writes the manual pages
    Man(ManArgs),
}

/// Shows what is registered, and takes what is wanted of it.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// What to print: for a person, or JSON for a program
    #[arg(long, value_enum, default_value_t = Output::Table, global = true)]
    pub(crate) output: Output,

    /// How long the registry may take for each of its answers, where it is asked
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
