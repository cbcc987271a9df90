//! Greeters and their callers as processes of this machine, found by their registry and nothing else.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{
    Port, Signal,
    process::{Process, binary},
};

/// How long a greeter may take until it says where it listens; a fraction of a second on a machine that is not busy.
const STARTED: Duration = Duration::from_secs(30);
/// How long a greeter may take to drain, and then some.
const STOPPED: Duration = Duration::from_secs(40);

/// Running greeters of one registry. Dropped, they are killed.
///
/// ```no_run
/// # async fn example() -> anyhow::Result<()> {
/// use std::time::Duration;
/// use testkit::fleet::Fleet;
///
/// let mut fleet = Fleet::new("file:///tmp/a-registry-of-its-own")?;
/// let first = fleet.add().await?;
/// fleet.add().await?;
/// let client = fleet.client(&["--duration", "5s", "--concurrency", "8", "--output", "json"])?;
/// fleet.kill(&first).await?;
/// assert_eq!(client.figures(Duration::from_secs(30)).await?.failures, 0);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Fleet {
    registry: String,
    environment: Vec<(String, String)>,
    server: PathBuf,
    client: PathBuf,
    servers: Vec<Server>,
}

/// One running greeter.
#[derive(Debug)]
pub struct Server {
    address: String,
    port: Port,
    process: Process,
}

impl Server {
    /// Where it answers.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its process, to read what it prints.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Leaves the port to whoever listens on it next.
    async fn stop(self) -> Result<Port> {
        let status = self.process.terminate(STOPPED).await?;
        self.ended_well(status)?;
        Ok(self.port)
    }

    fn ended_well(&self, status: ExitStatus) -> Result<()> {
        ensure!(
            status.success(),
            self.process.complaint(&format!("ended with {status}"))
        );
        Ok(())
    }
}

impl Fleet {
    /// An empty fleet of the registry at that URL, of the binaries beside this executable.
    pub fn new(registry: impl Into<String>) -> Result<Self> {
        Ok(Self {
            registry: registry.into(),
            environment: Vec::new(),
            server: binary("greeter-server")?,
            client: binary("greeter-client")?,
            servers: Vec::new(),
        })
    }

    /// Gives what is started from now on one more variable of the environment, or another value for it.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.remove_env(name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Gives what is started from now on that variable no more.
    pub fn remove_env(&mut self, name: &str) {
        self.environment.retain(|(other, _)| other != name);
    }

    /// Finds the registry there from now on: what was started before stays where it is.
    pub fn set_registry(&mut self, registry: &str) {
        registry.clone_into(&mut self.registry);
    }

    /// The running greeters, the oldest first.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Their addresses.
    pub fn addresses(&self) -> Vec<String> {
        self.servers
            .iter()
            .map(|server| server.address.clone())
            .collect()
    }

    /// Starts one more greeter, which is listening when this returns, and gives its address.
    pub async fn add(&mut self) -> Result<String> {
        let port = Port::free()?;
        let address = port.address();
        self.add_behind(port, &address).await?;
        Ok(address)
    }

    /// Starts `count` greeters.
    pub async fn add_many(&mut self, count: usize) -> Result<Vec<String>> {
        let mut addresses = Vec::new();
        for _ in 0..count {
            addresses.push(self.add().await?);
        }
        Ok(addresses)
    }

    /// Starts a greeter that listens on `port` and tells callers another address, by which it is known here too.
    pub async fn add_behind(&mut self, port: Port, address: &str) -> Result<()> {
        let mut command = self.command(&self.server);
        command.args(["--listen", &port.address(), "--advertise", address]);
        let process = Process::spawn(format!("greeter {address}"), command)?;
        // Its first line says where it listens; one that says that it cannot begins otherwise.
        let listens = |line: &str| line.contains(address) && !line.starts_with("error");
        process
            .wait_for("where it listens", listens, STARTED)
            .await?;
        let address = address.to_owned();
        self.servers.push(Server {
            address,
            port,
            process,
        });
        Ok(())
    }

    /// Sends a greeter a signal: SIGSTOP lets it hang, SIGCONT go on.
    pub fn signal(&self, address: &str, signal: Signal) -> Result<()> {
        self.servers[self.place(address)?].process.signal(signal)
    }

    /// Kills a greeter (SIGKILL), which is gone when this returns.
    pub async fn kill(&mut self, address: &str) -> Result<()> {
        self.take(address)?.process.kill().await?;
        Ok(())
    }

    /// Stops a greeter (SIGTERM) and waits until it has drained. An error when it does not end well.
    pub async fn stop(&mut self, address: &str) -> Result<()> {
        self.take(address)?.stop().await.map(drop)
    }

    /// Waits until a greeter that was told to end has ended, `bound` at most. An error when it does not end well.
    pub async fn gone(&mut self, address: &str, bound: Duration) -> Result<()> {
        let server = self.take(address)?;
        let status = server.process.wait(bound).await?;
        server.ended_well(status)
    }

    /// Stops a greeter and starts it again at its address.
    pub async fn restart(&mut self, address: &str) -> Result<()> {
        let port = self.take(address)?.stop().await?;
        self.add_behind(port, address).await
    }

    /// A binary of this fleet's registry, whose log is for people to read.
    fn command(&self, binary: &Path) -> Command {
        let mut command = Command::new(binary);
        command.args(["--registry", &self.registry]);
        command.env("DISCOVERY__LOG__FORMAT", "text");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn take(&mut self, address: &str) -> Result<Server> {
        let place = self.place(address)?;
        Ok(self.servers.remove(place))
    }

    fn place(&self, address: &str) -> Result<usize> {
        let place = self
            .servers
            .iter()
            .position(|server| server.address == address);
        place.with_context(|| format!("no greeter runs at {address}"))
    }

    /// Starts a `greeter-client` that finds the greeters by name, with further arguments.
    pub fn client(&self, arguments: &[&str]) -> Result<Client> {
        let mut command = self.command(&self.client);
        command.args(arguments);
        Ok(Client {
            process: Process::spawn("greeter-client", command)?,
        })
    }
}

/// A running `greeter-client`. Dropped, it is killed.
#[derive(Debug)]
pub struct Client {
    process: Process,
}

impl Client {
    /// Its process, to read what it prints and to wait for its end.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Asks it to finish its calls and to print its figures, as Ctrl-C does.
    pub fn interrupt(&self) -> Result<()> {
        self.process.signal(Signal::SIGINT)
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.process.try_wait().is_some()
    }

    /// Waits for its end, `bound` at most, and reads the one JSON object that `--output json` prints. Its exit code
    /// must agree.
    pub async fn figures(&self, bound: Duration) -> Result<Figures> {
        let (status, printed) = self.end(bound).await?;
        let [object] = printed.as_slice() else {
            let problem = format!("printed {} lines on stdout, expected one", printed.len());
            return Err(self.process.complaint(&problem));
        };
        let figures = Figures::parse(object)?;
        ensure!(
            status.success() == (figures.failures == 0),
            "{} of the calls failed, and greeter-client ended with {status}",
            figures.failures
        );
        Ok(figures)
    }

    /// Waits for its end, `bound` at most, and gives its exit status and the lines that it printed on stdout.
    pub async fn end(&self, bound: Duration) -> Result<(ExitStatus, Vec<String>)> {
        self.process.printed(bound).await
    }
}

/// What `greeter-client --output json` prints.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// How many calls were made.
    pub calls: u64,
    /// How many of them failed.
    pub failures: u64,
    /// Calls by the status that they ended with.
    pub statuses: BTreeMap<String, u64>,
    /// What the first call that failed said, by its status.
    pub first_failures: BTreeMap<String, String>,
    /// Calls in a second.
    pub rps: f64,
    /// Latencies in microseconds by their names: `p50`, `p99`, `p999`, `max`.
    pub latency_us: BTreeMap<String, u64>,
    /// Calls by the address of the instance that answered.
    pub instances: BTreeMap<String, u64>,
}

impl Figures {
    /// Reads the JSON object; an error names what is missing.
    ///
    /// ```
    /// use testkit::fleet::Figures;
    /// let figures = Figures::parse(
    ///     r#"{"calls":2,"failures":0,"statuses":{"OK":2},"first_failures":{},"rps":9.5,
    ///         "latency_us":{"p50":90,"p99":95,"p999":95,"max":95},"instances":{"127.0.0.1:50051":2}}"#,
    /// )?;
    /// assert_eq!(figures.instances["127.0.0.1:50051"], 2);
    /// assert_eq!(figures.failures_in_words(), "");
    /// assert!(Figures::parse("{}").is_err());
    /// # Ok::<(), anyhow::Error>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self> {
        let object: Value =
            serde_json::from_str(text).with_context(|| format!("no JSON: {text:?}"))?;
        let field = |name: &str| {
            object
                .get(name)
                .with_context(|| format!("no {name:?} in {text}"))
        };
        let number = |name| {
            field(name)?
                .as_u64()
                .with_context(|| format!("{name:?} is no count"))
        };
        Ok(Self {
            calls: number("calls")?,
            failures: number("failures")?,
            statuses: counts(field("statuses")?)?,
            first_failures: texts(field("first_failures")?)?,
            rps: field("rps")?.as_f64().context("\"rps\" is no number")?,
            latency_us: counts(field("latency_us")?)?,
            instances: counts(field("instances")?)?,
        })
    }

    /// What the calls that failed ended with, each with its count and what the first of them said: `ABORTED 1 (gone),
    /// UNAVAILABLE 2 (nobody there)`.
    pub fn failures_in_words(&self) -> String {
        let failures = self.statuses.iter().filter(|(code, _)| *code != "OK");
        let words: Vec<_> = failures
            .map(|(code, count)| match self.first_failures.get(code) {
                Some(said) => format!("{code} {count} ({said})"),
                None => format!("{code} {count}"),
            })
            .collect();
        words.join(", ")
    }
}

fn counts(object: &Value) -> Result<BTreeMap<String, u64>> {
    map(object, Value::as_u64)
}

fn texts(object: &Value) -> Result<BTreeMap<String, String>> {
    map(object, |value| value.as_str().map(str::to_owned))
}

fn map<T>(object: &Value, read: impl Fn(&Value) -> Option<T>) -> Result<BTreeMap<String, T>> {
    let Some(object) = object.as_object() else {
        bail!("{object} is no object");
    };
    let entry = |(name, value): (&String, &Value)| {
        let value = read(value).with_context(|| format!("{name:?} is {value}"))?;
        Ok((name.clone(), value))
    };
    object.iter().map(entry).collect()
}
