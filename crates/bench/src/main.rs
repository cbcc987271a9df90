//! Benchmarks: one file a question. Peers are measured in the same run, because machines are noisy and ratios are less so.

mod allocations;
mod call_cost;
mod client;
mod cost;
mod echo;
mod fleet;
mod get_user;
mod latency;
mod limits;
mod memory;
mod peers;
mod pick;
mod process;
mod registry;
mod servers;
mod soak;
mod table;
mod throughput;
mod turns;
mod update;
mod user_servers;
mod valgrind;
mod watching;
mod work;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// Measures what this workspace promises, against its peers, on this machine.
///
/// Each question prints one Markdown table; how far it has come is told on stderr, when that is a terminal. Peers take
/// turns, each in a process of its own, and the servers are in another; what is printed is the median.
#[derive(Parser)]
#[command(
    name = "bench",
    version,
    after_help = "Run it with --release and on a machine that does nothing else; docs/benchmarks.md says how to read the \
                  tables. Without a question, all are asked; that takes a quarter of an hour."
)]
struct Args {
    /// Without one, all are asked
    #[command(subcommand)]
    question: Option<Question>,
}

#[derive(Subcommand)]
enum Question {
    /// What does a unary call cost its caller, in CPU time or in instructions?
    CallCost(call_cost::Args),
    /// What does it add to a call that one in a hundred is traced, and all are measured?
    Watching(watching::Args),
    /// How long does a caller wait, when many call?
    Latency(latency::Args),
    /// How often does a call allocate?
    Allocations(allocations::Args),
    /// How much goes through one connection: large messages, and long streams of small ones?
    Throughput(throughput::Args),
    /// What does an endpoint take in memory, before it is connected?
    Memory(memory::Args),
    /// What does it cost when one endpoint of very many changes, again and again?
    Update(update::Args),
    /// What does one pick cost, by each policy, among few and among very many endpoints?
    Pick(pick::Args),
    /// What does the registry's client cost beside a bare etcd client: until a registration is seen, for each event, for
    /// each instance?
    Registry(registry::Args),
    /// What does it cost user-service to look a user up, beside a handler that looks nothing up?
    GetUser(get_user::Args),
    /// What do callers notice of a peer that tries what it can on their server?
    Limits(limits::Args),
    /// Does anything stay behind, when a channel is used hard for ten minutes while servers come and go?
    Soak(soak::Args),
    /// Serves the greeter for the other questions until its standard input ends.
    #[command(hide = true)]
    Serve(servers::Args),
    /// Serves one user who is made up, until it is killed; what `get-user` compares with.
    #[command(hide = true)]
    ServeUser(user_servers::ConstantArgs),
    /// Tries what a peer can on a server, until its standard input ends; what `limits` measures.
    #[command(hide = true)]
    Hostile(limits::HostileArgs),
    /// Makes calls over one of the peers; what most questions measure.
    #[command(hide = true)]
    Client(client::Job),
    /// Holds a channel to very many endpoints; what `memory` measures.
    #[command(hide = true)]
    Hold(memory::HoldArgs),
    /// Follows a registry of very many endpoints, one of which changes; what `update` measures.
    #[command(hide = true)]
    Follow(update::FollowArgs),
    /// Follows a service in etcd, by the registry's client or a bare one; what `registry` measures.
    #[command(hide = true)]
    Watch(registry::WatchArgs),
}

/// What is asked when nothing else is: the commands of `docs/benchmarks.md`.
const ALL: &[(&str, &[&str])] = &[
    (
        "What does a unary call cost its caller?",
        &[
            "call-cost",
            "call-cost --threads 2",
            "call-cost --callers 16 --instructions",
        ],
    ),
    (
        "What does it add to a call that it is watched?",
        &[
            "watching",
            "watching --threads 2",
            "watching --callers 16 --instructions",
        ],
    ),
    ("How long does a caller wait, when many call?", &["latency"]),
    ("How often does a call allocate?", &["allocations"]),
    ("How much goes through one connection?", &["throughput"]),
    (
        "What does an endpoint take in memory, before it is connected?",
        &["memory"],
    ),
    (
        "What does it cost when one endpoint of very many changes?",
        &["update"],
    ),
    ("What does one pick cost?", &["pick"]),
    (
        "What does the registry's client cost beside a bare etcd client?",
        &["registry"],
    ),
    ("What does it cost to look a user up?", &["get-user"]),
    (
        "What do callers notice of a peer that tries what it can?",
        &["limits"],
    ),
];

fn main() -> Result<()> {
    match Args::parse().question {
        Some(question) => ask(question),
        None => ask_all(),
    }
}

fn ask_all() -> Result<()> {
    for (title, commands) in ALL {
        println!("## {title}\n");
        for command in *commands {
            println!("`bench {command}`: ");
            let words = std::iter::once("bench").chain(command.split(' '));
            let question = Args::try_parse_from(words)?.question;
            ask(question.expect("every command has one"))
                .with_context(|| format!("`bench {command}` did not end well"))?;
            println!();
        }
    }
    Ok(())
}

fn ask(question: Question) -> Result<()> {
    match question {
        Question::CallCost(args) => call_cost::run(&args),
        Question::Watching(args) => watching::run(&args),
        Question::Latency(args) => latency::run(&args),
        Question::Allocations(args) => allocations::run(&args),
        Question::Throughput(args) => throughput::run(&args),
        Question::Memory(args) => memory::run(&args),
        Question::Update(args) => update::run(&args),
        Question::Pick(args) => pick::run(&args),
        Question::Registry(args) => registry::run(&args),
        Question::GetUser(args) => get_user::run(&args),
        Question::Limits(args) => limits::run(&args),
        Question::Soak(args) => soak::run(&args),
        Question::Serve(args) => servers::serve(&args),
        Question::ServeUser(args) => user_servers::serve_constant(&args),
        Question::Hostile(args) => limits::be_hostile(&args),
        Question::Client(job) => client::run(&job),
        Question::Hold(args) => memory::hold(&args),
        Question::Follow(args) => update::follow(&args),
        Question::Watch(args) => registry::watch(&args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::{ALL, Args, Parser as _};

    #[test]
    fn the_command_line_is_well_formed_and_so_is_all_that_is_asked() {
        Args::command().debug_assert();
        for command in ALL.iter().flat_map(|(_, commands)| *commands) {
            let words = std::iter::once("bench").chain(command.split(' '));
            let parsed = Args::try_parse_from(words).map(|args| args.question.is_some());
            assert!(matches!(parsed, Ok(true)), "bench {command}");
        }
    }
}
