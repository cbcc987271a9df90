//! What does a unary call cost its caller?
//!
//! Each measurement is a process of its own with one thread, that makes the calls and then tells its own CPU time; the
//! peers take turns, so that a machine that gets slower slows all of them. Instructions are counted by valgrind, as the
//! difference between two runs of different length, so that starting up counts for nothing.

use std::{
    env,
    io::{self, IsTerminal as _},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};
use proto::helloworld::{HelloRequest, greeter_client::GreeterClient};
use tokio::{task::JoinSet, time::Instant};
use tonic::{
    body::Body,
    client::GrpcService,
    codegen::{Bytes, StdError},
};

use crate::{
    peers::{Peer, balanced, tonic_balance, tonic_one},
    servers::Servers,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Calls under way at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    callers: u32,
    /// Calls in each measurement
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    calls: u32,
    /// Measurements of each peer, of which the median counts
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Count instructions with valgrind instead of measuring time (slow, and repeatable)
    #[arg(long)]
    instructions: bool,
}

#[derive(clap::Args)]
pub(crate) struct ClientArgs {
    #[arg(long)]
    peer: Peer,
    #[arg(long)]
    callers: u32,
    #[arg(long)]
    calls: u32,
    #[arg(required = true)]
    addresses: Vec<String>,
}

/// Asks as `docs/benchmarks.md` does: once in time, and once in instructions.
pub(crate) fn ask() -> Result<()> {
    println!("## What does a unary call cost its caller?\n");
    let time = Args {
        callers: 64,
        calls: 50_000,
        rounds: 7,
        instructions: false,
    };
    run(&time)?;
    println!();
    run(&Args {
        callers: 16,
        instructions: true,
        ..time
    })
}

/// Measures all peers and prints the table.
pub(crate) fn run(args: &Args) -> Result<()> {
    let servers = Servers::start()?;
    let (unit, rounds) = if args.instructions {
        println!(
            "{} callers, one thread, counted by valgrind\n",
            args.callers
        );
        ("instructions", 1)
    } else {
        let Args {
            callers,
            calls,
            rounds,
            ..
        } = args;
        println!(
            "{callers} callers, one thread, the median of {rounds} measurements of {calls} calls\n"
        );
        ("CPU µs", *rounds)
    };
    let watched = io::stderr().is_terminal();
    let mut figures: Vec<(Peer, Vec<f64>)> = Peer::ALL.map(|peer| (peer, Vec::new())).into();
    for round in 1..=rounds {
        if watched {
            eprint!("\rround {round} of {rounds}");
        }
        for (peer, figures) in &mut figures {
            figures.push(if args.instructions {
                instructions(*peer, args, &servers.addresses)?
            } else {
                cpu_micros(*peer, args, &servers.addresses)?
            });
        }
    }
    if watched {
        eprint!("\r\x1b[K");
    }
    let yardstick = median(&figures[0].1);
    println!("| channel | {unit} a call | over tonic's direct channel |\n| --- | --- | --- |");
    for (peer, figures) in &figures {
        let figure = median(figures);
        println!(
            "| {} | {figure:.1} | {:.2} |",
            peer.name(),
            figure / yardstick
        );
    }
    Ok(())
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn cpu_micros(peer: Peer, args: &Args, addresses: &[String]) -> Result<f64> {
    let mut command = Command::new(env::current_exe()?);
    let output = client_args(&mut command, peer, args.callers, args.calls, addresses)
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(
        output.status.success(),
        "the client over {} failed",
        peer.name()
    );
    let micros: f64 = String::from_utf8(output.stdout)?
        .trim()
        .parse()
        .context("the client prints its CPU time")?;
    Ok(micros / f64::from(args.calls))
}

fn instructions(peer: Peer, args: &Args, addresses: &[String]) -> Result<f64> {
    let (few, many) = (2_000, 6_000);
    let difference = counted(peer, args.callers, many, addresses)?
        - counted(peer, args.callers, few, addresses)?;
    Ok(difference / f64::from(many - few))
}

fn counted(peer: Peer, callers: u32, calls: u32, addresses: &[String]) -> Result<f64> {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?);
    let output = client_args(&mut command, peer, callers, calls, addresses)
        .output()
        .context(
            "cannot run valgrind; install the package valgrind, or leave --instructions out",
        )?;
    let log = String::from_utf8_lossy(&output.stderr);
    let counted = log.lines().find_map(|line| line.split_once("Collected :"));
    let Some((_, count)) = counted else {
        bail!("valgrind counted nothing: {log}")
    };
    count
        .trim()
        .parse()
        .context("valgrind's count is no number")
}

fn client_args<'c>(
    command: &'c mut Command,
    peer: Peer,
    callers: u32,
    calls: u32,
    addresses: &[String],
) -> &'c mut Command {
    command
        .args(["client", "--peer", &peer.word()])
        .args([
            "--callers",
            &callers.to_string(),
            "--calls",
            &calls.to_string(),
        ])
        .args(addresses)
}

/// Makes the calls, and prints the CPU time that they took, in microseconds.
pub(crate) fn client(args: &ClientArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let cpu = runtime.block_on(async {
        match args.peer {
            Peer::TonicOne => measure(tonic_one(&args.addresses).await?, args).await,
            Peer::TonicBalance => measure(tonic_balance(&args.addresses)?, args).await,
            Peer::Balance => measure(balanced(&args.addresses, false).await?, args).await,
            Peer::BalanceFull => measure(balanced(&args.addresses, true).await?, args).await,
        }
    })?;
    println!("{}", cpu.as_micros());
    Ok(())
}

/// What a generated client runs over, in tasks.
trait Measured:
    GrpcService<
        Body,
        Future: Send,
        ResponseBody: tonic::codegen::Body<Data = Bytes, Error: Into<StdError> + Send>
                          + Send
                          + 'static,
        Error: Send,
    > + Clone
    + Send
    + 'static
{
}

impl<C> Measured for C where
    C: GrpcService<
            Body,
            Future: Send,
            ResponseBody: tonic::codegen::Body<Data = Bytes, Error: Into<StdError> + Send>
                              + Send
                              + 'static,
            Error: Send,
        > + Clone
        + Send
        + 'static
{
}

async fn measure(channel: impl Measured, args: &ClientArgs) -> Result<Duration> {
    // The first calls connect, and fill whatever is filled once.
    call_all(&channel, args.callers, args.callers * 4).await?;
    let (before, started) = (cpu_time()?, Instant::now());
    call_all(&channel, args.callers, args.calls).await?;
    let used = cpu_time()?.saturating_sub(before);
    ensure!(
        started.elapsed() >= used / 2,
        "more CPU time than time passed: the figures are wrong"
    );
    Ok(used)
}

async fn call_all(channel: &impl Measured, callers: u32, calls: u32) -> Result<()> {
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let mut client = GreeterClient::new(channel.clone());
        tasks.spawn(async move {
            for _ in 0..calls / callers {
                client
                    .say_hello(HelloRequest {
                        name: "world".into(),
                    })
                    .await?;
            }
            Ok::<_, tonic::Status>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

fn cpu_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = |time: TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    Ok(Duration::from_micros(u64::try_from(
        micros(usage.user_time()) + micros(usage.system_time()),
    )?))
}
