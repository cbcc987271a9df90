//! Benchmarks: one file a question. Peers are measured in the same run, because machines are noisy and ratios are less so.

mod call_cost;
mod peers;
mod servers;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measures what this workspace promises, against its peers, on this machine.
#[derive(Parser)]
#[command(
    version,
    after_help = "Run it with --release; docs/benchmarks.md says how to read the tables."
)]
struct Args {
    /// Without one, all are asked
    #[command(subcommand)]
    question: Option<Question>,
}

#[derive(Subcommand)]
enum Question {
    /// What does a unary call cost its caller, in CPU time and in instructions?
    CallCost(call_cost::Args),
    /// Serves the greeter for the other questions until its standard input ends.
    #[command(hide = true)]
    Serve,
    /// Makes calls over one of the peers; what the other questions measure.
    #[command(hide = true)]
    Client(call_cost::ClientArgs),
}

fn main() -> Result<()> {
    match Args::parse().question {
        None => call_cost::ask(),
        Some(Question::CallCost(args)) => call_cost::run(&args),
        Some(Question::Serve) => servers::serve(),
        Some(Question::Client(args)) => call_cost::client(&args),
    }
}
