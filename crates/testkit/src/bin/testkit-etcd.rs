//! A real etcd cluster on this machine, for as long as the command runs.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};
use clap::Parser;
use futures_util::future::join_all;
use testkit::etcd::{Cluster, ClusterOptions};
use tokio::signal::unix::{SignalKind, signal};

/// Runs a local etcd cluster on loopback until Ctrl-C or SIGTERM.
///
/// It needs the `etcd` binary on the PATH (Debian: apt-get install etcd-server etcd-client), or in the directory that `ETCD_BIN_DIR` names.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:
  testkit-etcd                                three members on 2379, 22379 and 32379
  testkit-etcd --ports 2379                   one member
  testkit-etcd --data-dir ~/etcd              data that is there again next time
  ETCD_BIN_DIR=/opt/etcd-3.5 testkit-etcd     another version of etcd"
)]
struct Arguments {
    /// Each member's port for clients; the port above each is for its peers
    #[arg(long, value_name = "PORT,...", value_delimiter = ',', default_value = "2379,22379,32379",
          value_parser = clap::value_parser!(u16).range(1..65535))]
    ports: Vec<u16>,
    /// Keep the members' data here; without it the data is removed at the end
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match until_asked_to_end(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("testkit-etcd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn until_asked_to_end(arguments: Arguments) -> Result<()> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let options = ClusterOptions {
        client_ports: arguments.ports,
        data: arguments.data_dir,
        ..ClusterOptions::default()
    };
    tokio::select! {
        ended = run(options) => ended,
        _ = interrupted.recv() => Ok(()),
        _ = terminated.recv() => Ok(()),
    }
}

/// Returns only when the cluster cannot be started or no member is left: one that is killed is for the others to do
/// without.
async fn run(options: ClusterOptions) -> Result<()> {
    let cluster = Cluster::start_with(options)
        .await
        .context("cannot start the etcd cluster")?;
    println!("{}", describe(&cluster));
    let members = (0..cluster.len()).map(async |member| {
        let ended = cluster.ended(member).await;
        eprintln!("{ended:#}");
    });
    join_all(members).await;
    bail!("no member is left")
}

fn describe(cluster: &Cluster) -> String {
    let endpoints = cluster.endpoints().join(",");
    let url = cluster.url("");
    format!(
        "etcd runs, members: {members}, data in {data}
  endpoints     {endpoints}
  registry URL  {url}

Try, each in a terminal of its own:
  cargo run -p greeter-server -- --registry {url}
  cargo run -p greeter-client -- --registry {url}
  ETCDCTL_API=3 etcdctl --endpoints={endpoints} get --prefix greeter/
  ETCDCTL_API=3 etcdctl --endpoints={endpoints} endpoint status --write-out=table

Ctrl-C ends it.",
        members = cluster.len(),
        data = cluster.data().display(),
    )
}
