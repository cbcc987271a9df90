//! A registry of a test's own, and the binary on it.

use std::{fs, process::Command, time::Duration};

use registry::{Address, Instance, Registration, RegistrationState, Registry, ServiceName};
use serde_json::Value;
use tempfile::TempDir;
use testkit::{etcd::Cluster, process::Process};

/// Longer than anything takes on a machine that is busy.
pub(crate) const BOUND: Duration = Duration::from_mins(1);
pub(crate) const TTL: Duration = Duration::from_mins(10);

/// A registry that nobody else uses.
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) registry: Registry,
    /// What the command line is told by its environment.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Ends with it.
    _kept: Option<Kept>,
}

#[expect(dead_code, reason = "they are there until they are dropped")]
enum Kept {
    Directory(TempDir),
    Cluster(Cluster),
}

/// How a run ended, and what it printed.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
}

impl Place {
    pub(crate) fn directory() -> Self {
        let directory = TempDir::new().expect("a directory");
        let url = format!("file://{}/registry", directory.path().display());
        Self {
            _kept: Some(Kept::Directory(directory)),
            ..Self::of(url)
        }
    }

    pub(crate) async fn etcd() -> Self {
        let cluster = Cluster::start_one().await.expect("an etcd");
        let url = cluster.url("shop");
        Self {
            _kept: Some(Kept::Cluster(cluster)),
            ..Self::of(url)
        }
    }

    /// The registry there, which somebody else ends.
    pub(crate) fn of(url: String) -> Self {
        let registry = registry::connect(&url).expect("a registry");
        Self {
            url,
            registry,
            environment: Vec::new(),
            _kept: None,
        }
    }

    /// One that is read and written in these dialects.
    pub(crate) fn in_dialects(url: String, dialects: &str) -> Self {
        let written = dialects.parse().expect("dialects");
        let registry = registry::connect_with(&url, |etcd| Ok(etcd.with_dialects(written)));
        Self {
            registry: registry.expect("a registry"),
            environment: vec![("DISCOVERY__REGISTRY__DIALECTS", dialects.to_owned())],
            ..Self::of(url)
        }
    }

    /// A list that somebody else keeps, and nobody changes.
    pub(crate) fn fixed(list: &Value) -> Self {
        let directory = TempDir::new().expect("a directory");
        let file = directory.path().join("list.json");
        fs::write(&file, list.to_string()).expect("a file");
        let url = format!("fixed://{}", file.display());
        Self {
            _kept: Some(Kept::Directory(directory)),
            ..Self::of(url)
        }
    }

    /// Each kind of registry that outlives a process.
    pub(crate) async fn each() -> [Self; 2] {
        [Self::directory(), Self::etcd().await]
    }

    /// Registers, and waits until that is seen.
    pub(crate) async fn register(&self, instance: Instance) -> Registration {
        let registration = self.registry.register(instance, TTL);
        let mut states = registration.states();
        let held = states.wait_for(RegistrationState::is_held);
        let held = tokio::time::timeout(BOUND, held).await;
        held.expect("it is held soon").expect("it goes on");
        registration
    }

    /// The command line on this registry, unless the arguments name another.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_discovery"));
        for (name, value) in [("--registry", &*self.url), ("--registry-timeout", "30s")] {
            if !arguments.contains(&name) {
                command.args([name, value]);
            }
        }
        command.args(arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if arguments.first() == Some(&"resolve") {
            // A machine that is busy is no finding.
            command.args(["--connect-timeout", "1m"]);
        }
        command
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Process {
        let command = self.command(arguments);
        Process::spawn(format!("discovery {arguments:?}"), command).expect("it starts")
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Ended {
        end(&self.start(arguments)).await
    }

    /// What a run that does what was asked for prints for a person.
    pub(crate) async fn text(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments).await;
        assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
        ended.stdout.join("\n")
    }

    /// What a run that does what was asked for prints for a program.
    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        let text = self
            .text(&[arguments, &["--output", "json"]].concat())
            .await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The one line of a run that does not do what was asked for, whatever is logged of it before.
    pub(crate) async fn refusal(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments).await;
        assert_eq!(ended.code, Some(1), "{arguments:?}: {ended:?}");
        let said = ended
            .stderr
            .iter()
            .skip_while(|line| !line.starts_with("error: "));
        let [line] = said.collect::<Vec<_>>()[..] else {
            panic!("{arguments:?}: {ended:?}");
        };
        line.clone()
    }
}

pub(crate) async fn end(process: &Process) -> Ended {
    let status = process.wait(BOUND).await.expect("it ends");
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut lines = process.lines();
    while let Some(line) = lines.next().await {
        let stream = if line.stderr {
            &mut stderr
        } else {
            &mut stdout
        };
        stream.push(line.text.to_string());
    }
    Ended {
        code: status.code(),
        stdout,
        stderr,
    }
}

pub(crate) fn service(name: &str) -> ServiceName {
    ServiceName::new(name).expect("a name")
}

/// An instance of `service` that says that it is at that address.
pub(crate) fn instance(name: &str, address: &str) -> Instance {
    let address = Address::new(address).expect("an address");
    Instance::new(service(name), address)
}
