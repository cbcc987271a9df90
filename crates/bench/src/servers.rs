//! Real greeters, in a process of their own, so that what is measured is the caller alone.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use proto::helloworld::greeter_server::GreeterServer;
use tokio::net::TcpSocket;
use tonic::transport::{Server, server::TcpIncoming};

use crate::echo::Echo;

/// How many connections may wait to be accepted: some questions open thousands at once.
const BACKLOG: u32 = 4_096;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many servers, each on a port of its own
    #[arg(long, default_value_t = 3)]
    servers: usize,
    /// Where they listen
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

/// The servers' process; ends when dropped.
pub(crate) struct Servers {
    child: Child,
    pub(crate) addresses: Vec<String>,
}

impl Servers {
    /// Three servers, to balance over.
    pub(crate) fn start() -> Result<Self> {
        Self::start_as(3, "127.0.0.1:0")
    }

    /// One server that answers at every loopback address, and its port: as many endpoints as one likes.
    pub(crate) fn everywhere() -> Result<(Self, u16)> {
        let servers = Self::start_as(1, "0.0.0.0:0")?;
        let address: SocketAddr = servers.addresses[0].parse()?;
        Ok((servers, address.port()))
    }

    fn start_as(count: usize, listen: &str) -> Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args(["serve", "--servers", &count.to_string(), "--listen", listen])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the servers")?;
        let stdout = child.stdout.take().expect("piped");
        let lines = BufReader::new(stdout).lines().take(count);
        let addresses = lines.collect::<Result<Vec<_>, _>>();
        let servers = Self {
            child,
            addresses: addresses.context("the servers did not start")?,
        };
        ensure!(
            servers.addresses.len() == count,
            "the servers ended before they had started"
        );
        Ok(servers)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if let Err(error) = self.child.wait() {
            eprintln!("the servers did not end well: {error}");
        }
    }
}

/// Serves on free ports, prints the addresses, and ends with standard input.
pub(crate) fn serve(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        for _ in 0..args.servers {
            let socket = TcpSocket::new_v4()?;
            socket.bind(args.listen)?;
            let listener = socket.listen(BACKLOG)?;
            println!("{}", listener.local_addr()?);
            // As tonic's server sets it on the sockets of a listener of its own.
            let connections = TcpIncoming::from(listener).with_nodelay(Some(true));
            let server = Server::builder().add_service(GreeterServer::new(Echo));
            tokio::spawn(server.serve_with_incoming(connections));
        }
        let end = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        end.await?
            .context("cannot wait for the end of standard input")
            .map(drop)
    })
}
