//! The command line.

use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Does harm to the running Compose stack, by chance, and says what came of it.
///
/// Greeters, user services and members of etcd are killed, stopped, paused and cut off from the network, one at a time, and now and
/// then all of etcd is down for longer than the leases last. Meanwhile greeters and user services are called, nine tenths of the rate that
/// is asked for at least, and no call may fail. It ends by itself, and leaves all as it found it; so it does on Ctrl-C. The exit code is 0 only when everything held.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:
  just chaos                  one minute of it, on the stack that `just up` has started
  just chaos 5                five minutes
  just chaos 5 --seed 42      the same faults as another run with this seed
  just chaos 1 --output json  the report for a program"
)]
pub(crate) struct Args {
    /// For how many minutes faults begin; the last one is still seen to its end
    #[arg(value_name = "MINUTES", default_value_t = 1.0, value_parser = minutes)]
    pub(crate) minutes: f64,
    /// What the faults are drawn from; by chance when it is not given, and printed
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Prints the faults of a seed and ends: as many as begin in that time, were all right again at once
    #[arg(long, requires = "seed")]
    pub(crate) list: bool,
    /// How many calls a second to make to the greeters
    #[arg(long, value_name = "CALLS", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rate: u32,
    /// How many calls a second to make to the user services, each of which reads the storage and has a greeter called
    #[arg(long, value_name = "CALLS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) user_rate: u32,
    /// What to print at the end: a table, or one JSON object
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// The Compose project; without it the one of this directory
    #[arg(long, value_name = "NAME", env = "COMPOSE_PROJECT_NAME")]
    pub(crate) project: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

impl Args {
    /// For how long faults begin.
    pub(crate) fn time(&self) -> Duration {
        Duration::from_secs_f64(self.minutes * 60.0)
    }
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(minutes) if minutes > 0.0 && minutes <= 1_440.0 => Ok(minutes),
        _ => Err("a number of minutes above 0 is expected, a day at most".into()),
    }
}
