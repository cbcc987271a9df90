//! What systemd is told of a server that it has started, on a socket that stands for its own.

use std::{path::Path, process::Command};

use testkit::{Port, Signal};
use tokio::{
    net::UnixDatagram,
    time::{sleep, timeout},
};

use crate::running::{BOUND, Running, command, runtime, spawn};

/// Half of it is how often the server says that it is alive.
const WATCHDOG_MICROS: u64 = 1_000_000;

struct Systemd(UnixDatagram);

impl Systemd {
    fn listen(directory: &Path) -> Self {
        Self(UnixDatagram::bind(directory.join("notify")).expect("a socket"))
    }

    fn starts(&self, mut command: Command) -> Command {
        let address = self.0.local_addr().expect("bound");
        command.env("NOTIFY_SOCKET", address.as_pathname().expect("a path"));
        command.env("WATCHDOG_USEC", WATCHDOG_MICROS.to_string());
        command
    }

    async fn next(&self) -> String {
        let mut message = [0; 1024];
        let length = self.0.recv(&mut message).await.expect("a message");
        String::from_utf8_lossy(&message[..length]).into_owned()
    }

    /// The messages up to one that has this line.
    async fn until(&self, line: &str) -> Vec<String> {
        let heard = async {
            let mut heard = Vec::new();
            loop {
                let message = self.next().await;
                let is_it = message.lines().any(|told| told.starts_with(line));
                heard.push(message);
                if is_it {
                    return heard;
                }
            }
        };
        let within = timeout(BOUND, heard).await;
        within.unwrap_or_else(|_| panic!("systemd has not been told {line:?}"))
    }
}

fn has(messages: &[String], line: &str) -> bool {
    messages
        .iter()
        .any(|message| message.lines().any(|told| told.starts_with(line)))
}

fn is_stopped(server: &Running) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.process.pid()));
    stat.is_ok_and(|stat| {
        stat.rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('T'))
    })
}

#[tokio::test]
async fn a_server_is_ready_when_it_is_registered_and_says_how_it_stands_until_it_ends() {
    let runtime = runtime();
    let systemd = Systemd::listen(runtime.path());
    let server = spawn(systemd.starts(command(runtime.path(), &[]))).await;
    let before = systemd.until("READY=1").await;
    assert!(has(&before, "STATUS=registered and serving"), "{before:?}");
    assert!(!has(&before, "STOPPING=1"), "{before:?}");
    systemd.until("WATCHDOG=1").await;
    systemd.until("WATCHDOG=1").await;

    server.process.signal(Signal::SIGTERM).expect("it runs");
    let end = systemd.until("STOPPING=1").await;
    let last = end.last().expect("one");
    for line in ["EXTEND_TIMEOUT_USEC=33000000", "STATUS=draining"] {
        assert!(last.contains(line), "{last}");
    }
    let status = server.process.wait(BOUND).await.expect("it ends");
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_server_whose_registry_is_down_asks_for_time_instead_of_being_ready() {
    let runtime = runtime();
    let systemd = Systemd::listen(runtime.path());
    let nobody = Port::free().expect("a port");
    let registry = format!("etcd://{}", nobody.address());
    let command = command(runtime.path(), &["--registry", &registry]);
    let _server = spawn(systemd.starts(command)).await;
    let mut heard = systemd.until("STATUS=not registered for").await;
    for line in ["EXTEND_TIMEOUT_USEC=", "WATCHDOG=1"] {
        if !has(&heard, line) {
            heard.extend(systemd.until(line).await);
        }
    }
    assert!(!has(&heard, "READY=1"), "{heard:?}");
}

#[tokio::test]
async fn a_server_that_hangs_does_not_say_that_it_is_alive() {
    let runtime = runtime();
    let systemd = Systemd::listen(runtime.path());
    let server = spawn(systemd.starts(command(runtime.path(), &[]))).await;
    systemd.until("READY=1").await;
    server.process.signal(Signal::SIGSTOP).expect("it runs");
    testkit::eventually(BOUND, "a stopped process", async || is_stopped(&server)).await;
    while systemd.0.try_recv(&mut [0; 1024]).is_ok() {}
    let silence = sleep(std::time::Duration::from_micros(WATCHDOG_MICROS));
    tokio::select! {
        message = systemd.next() => panic!("a process that is stopped has said {message:?}"),
        () = silence => {}
    }
    server.process.signal(Signal::SIGCONT).expect("it runs");
    systemd.until("WATCHDOG=1").await;
}
