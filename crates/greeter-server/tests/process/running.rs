//! A greeter-server as a process, in a directory of its own.

use std::{fs, path::Path, process::Command, time::Duration};

use proto::helloworld::{HelloRequest, greeter_client::GreeterClient};
use registry::{Registry, ServiceName, Status};
use serde_json::Value;
use tempfile::TempDir;
use testkit::{eventually, process::Process};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::transport::Channel;

/// More than anything here takes on a busy machine.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

/// The binary, with nothing of this process's environment that would change what it does.
pub(crate) fn command(runtime: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_greeter-server"));
    command.args(arguments).env("XDG_RUNTIME_DIR", runtime);
    command
}

/// A running server whose first line has been read.
pub(crate) struct Running {
    pub(crate) process: Process,
    /// The first line of its log.
    pub(crate) first: Value,
    /// Where it is called.
    pub(crate) address: String,
    pub(crate) channel: Channel,
}

/// Starts a server with the file registry in `runtime`.
pub(crate) async fn start(runtime: &TempDir, arguments: &[&str]) -> Running {
    spawn(command(runtime.path(), arguments)).await
}

pub(crate) async fn spawn(command: Command) -> Running {
    let process = Process::spawn("greeter-server", command).expect("it starts");
    let line = process
        .wait_for("a line", |_| true, BOUND)
        .await
        .expect("a line");
    let first: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    let address = first["address"].as_str().expect("an address").to_owned();
    Running {
        channel: connect(&address).await,
        process,
        first,
        address,
    }
}

/// A connection. What one stream leaves unread must be far below what a connection takes, or a client stalls itself.
pub(crate) async fn connect(address: &str) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}"))
        .expect("a URI")
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(1024 * 1024);
    endpoint.connect().await.expect("it listens")
}

impl Running {
    pub(crate) fn greeter(&self) -> GreeterClient<Channel> {
        GreeterClient::new(self.channel.clone())
    }

    pub(crate) async fn greets(&self, name: &str) {
        let reply = self
            .greeter()
            .say_hello(hello(name))
            .await
            .expect("a greeting");
        let message = reply.into_inner().message;
        assert_eq!(message, format!("Hello {name} from {}", self.address));
    }

    /// One page of the admin port, whose address is in the log.
    pub(crate) async fn admin_page(&self, path: &str) -> String {
        self.ask_admin("GET", path, "").await
    }

    /// The same by any method, and with a body.
    pub(crate) async fn ask_admin(&self, method: &str, path: &str, body: &str) -> String {
        let line = self
            .process
            .wait_for_line("admin page", BOUND)
            .await
            .expect("a line");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        let address = line["listen"].as_str().expect("an address");
        let mut stream = TcpStream::connect(address).await.expect("the admin page");
        let length = body.len();
        let request = format!("{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        answer
    }

    /// What the process holds in memory, in MiB.
    pub(crate) fn resident(&self) -> usize {
        self.memory("VmRSS:")
    }

    /// The most that it has held at a time.
    pub(crate) fn peak_resident(&self) -> usize {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid()));
        let status = status.expect("it runs");
        let line = status
            .lines()
            .find(|line| line.starts_with(name))
            .expect("a size");
        let kib: usize = line
            .split_whitespace()
            .nth(1)
            .expect("a number")
            .parse()
            .expect("KiB");
        kib / 1024
    }

    pub(crate) async fn until_no_call_is_in_flight(&self) {
        self.until_in_flight(0).await;
    }

    pub(crate) async fn until_in_flight(&self, calls: usize) {
        let count = format!(" {calls}");
        eventually(BOUND, &format!("{calls} calls in flight"), async || {
            let metrics = self.admin_page("/metrics").await;
            let active = metrics
                .lines()
                .find(|line| line.starts_with("rpc_server_calls_active"));
            active.is_some_and(|line| line.ends_with(&count))
        })
        .await;
    }
}

/// The file registry that a server in `runtime` uses without configuration.
pub(crate) fn registry_of(runtime: &TempDir) -> Registry {
    let url = format!("file://{}/discovery", runtime.path().display());
    registry::connect(&url).expect("a registry")
}

/// The addresses of the greeters in a registry, and what status each has.
pub(crate) async fn greeters(registry: &Registry) -> Vec<(String, Status)> {
    let greeter = ServiceName::new("greeter").expect("a name");
    let snapshot = registry.list(&greeter).await.expect("a list");
    let line = |instance: &std::sync::Arc<registry::Instance>| {
        (instance.address().to_string(), instance.status)
    };
    snapshot.instances().map(line).collect()
}

pub(crate) fn hello(name: &str) -> HelloRequest {
    HelloRequest {
        name: name.to_owned(),
    }
}

pub(crate) fn runtime() -> TempDir {
    tempfile::tempdir().expect("a directory")
}
