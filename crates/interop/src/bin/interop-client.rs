//! `interop-client`: gRPC's interoperability cases through this workspace's channel.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use balance::Channel;
use clap::{Parser, ValueEnum};
use interop::{Case, Verdict};

const EXAMPLES: &str = "\
Examples:
  interop-client --target static:///127.0.0.1:50051
      Every case, against a server in any language.
  interop-client --target static:///10.0.0.1:1,10.0.0.2:1 --policy round_robin
      The same, balanced over two.
  interop-client --target static:///127.0.0.1:50051 --case ping_pong
      One of them.

It exits with 0 when each case has passed, and otherwise with 1.";

/// Runs gRPC's interoperability cases, one after another, and says what came of each.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    /// Whom to call: `static:///HOST:PORT`, or several, with commas
    #[arg(long)]
    target: String,
    /// How to balance
    #[arg(long, default_value = "round_robin")]
    policy: String,
    /// Which case to run, or `all`; may be given more than once
    #[arg(long = "case", value_name = "NAME", default_value = "all", value_parser = which)]
    cases: Vec<Which>,
    /// `json` is one object a line for each case
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    One(Case),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

impl Args {
    fn wanted(&self) -> Vec<Case> {
        let wanted =
            |case| self.cases.contains(&Which::All) || self.cases.contains(&Which::One(case));
        let all = Case::all().iter().copied();
        all.filter(|case| wanted(*case)).collect()
    }
}

fn which(name: &str) -> Result<Which, String> {
    if name == "all" {
        return Ok(Which::All);
    }
    Case::from_str(name, false).map(Which::One).map_err(|_| {
        let names: Vec<_> = Case::all().iter().map(|case| case.name()).collect();
        format!("the cases are all, {}", names.join(", "))
    })
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let channel = Channel::builder(&args.target)
        .policy(&args.policy)
        .build()
        .with_context(|| format!("there can be no channel to {}", args.target))?;
    let mut failed = 0;
    for case in args.wanted() {
        let verdict = case.judge(&channel).await;
        failed += usize::from(verdict.failure.is_some());
        println!("{}", line(&verdict, args.output)?);
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn line(verdict: &Verdict, output: Output) -> Result<String> {
    Ok(match (output, &verdict.failure) {
        (Output::Json, _) => serde_json::to_string(verdict)?,
        (Output::Text, None) => format!("{}: passed in {} ms", verdict.case, verdict.milliseconds),
        (Output::Text, Some(failure)) => format!("{}: FAILED: {failure}", verdict.case),
    })
}
