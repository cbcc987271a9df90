//! Greeters and callers with whom happens all that is counted: one answers badly, one is not there, one is killed, one has a certificate.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use registry::{Address, Instance, Registration, Registry, ServiceName};
use tempfile::TempDir;
use testkit::{
    Port, Unable, eventually,
    fleet::{Client, Fleet},
    http,
    tls::{Authority, Signed},
};

/// More than anything here takes on a busy machine.
pub(crate) const BOUND: Duration = Duration::from_mins(1);
const TTL: Duration = Duration::from_secs(10);

/// Tries again, and keeps calls from who answers badly.
const RETRIES: &str = r#"{
  "loadBalancingConfig": [{"outlier_detection": {
    "interval": "0.2s", "baseEjectionTime": "0.5s",
    "consecutiveFailures": {"threshold": 3}, "childPolicy": [{"round_robin": {}}]
  }}],
  "methodConfig": [{"name": [{}], "retryPolicy": {
    "maxAttempts": 4, "initialBackoff": "0.001s", "maxBackoff": "0.01s", "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"]
  }}]
}"#;
/// Asks two at once.
const HEDGES: &str = r#"{
  "loadBalancingConfig": [{"round_robin": {}}],
  "methodConfig": [{"name": [{}], "hedgingPolicy": {
    "maxAttempts": 2, "hedgingDelay": "0s", "nonFatalStatusCodes": ["UNAVAILABLE"]
  }}]
}"#;
/// What has happened last is counted by these.
const HAPPENINGS: [&str; 5] = [
    "grpc_client_call_retries_sum",
    "grpc_client_call_hedges_sum",
    "grpc_lb_outlier_detection_ejections_enforced_total",
    "grpc_subchannel_disconnections_total",
    "grpc_subchannel_connection_attempts_failed_total",
];

/// The scene, for as long as this lives.
pub(crate) struct Scene {
    servers: Vec<Port>,
    callers: Vec<Port>,
    _clients: Vec<Client>,
    fleet: Fleet,
    _secured: Fleet,
    _registrations: Vec<Registration>,
    /// Nobody listens there.
    _nobody: Port,
    _rogue: Unable,
    _directory: TempDir,
}

impl Scene {
    pub(crate) async fn begin() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("file://{}/registry", directory.path().display());
        let mut fleet = Fleet::new(&url).expect("the binaries are built");
        let mut servers = Vec::new();
        for _ in 0..2 {
            servers.push(page_of_the_next(&mut fleet));
            fleet.add().await.expect("a greeter");
        }
        let authority = Authority::new().expect("an authority");
        let own = authority.sign_spiffe("spiffe://example.org/greeter");
        let own = own.expect("a certificate");
        let (page, secured) = secured(directory.path(), &authority, &own).await;
        servers.push(page);
        fleet.set_env("DISCOVERY__ADMIN__LISTEN", "off");
        let doomed = fleet.add().await.expect("a greeter");

        let registry = registry::connect(&url).expect("a registry");
        let nobody = Port::free().expect("a port");
        let rogue = Unable::start().await.expect("a server");
        let registrations = vec![
            register(&registry, rogue.address()),
            register(&registry, &nobody.address()),
        ];

        // A collector that is not there: what becomes of spans is counted.
        fleet.set_env(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            &format!("http://{}", nobody.address()),
        );
        let (mut callers, mut clients) = (Vec::new(), Vec::new());
        for config in [RETRIES, HEDGES] {
            callers.push(page_of_the_next(&mut fleet));
            let arguments = ["--forever", "--interval", "10ms", "--concurrency", "2"];
            let arguments = [&arguments[..], &["--service-config", config]].concat();
            clients.push(fleet.client(&arguments).expect("a client"));
        }
        let scene = Self {
            servers,
            callers,
            _clients: clients,
            fleet,
            _secured: secured,
            _registrations: registrations,
            _nobody: nobody,
            _rogue: rogue,
            _directory: directory,
        };
        scene.lose(&doomed).await
    }

    /// Kills the greeter at that address once it is called.
    async fn lose(mut self, doomed: &str) -> Self {
        let picks = format!("endpoint=\"{doomed}\"");
        eventually(BOUND, "calls to the one that is to be killed", async || {
            let pages = self.pages().await;
            let mut lines = pages.iter().flat_map(|page| page.lines());
            lines.any(|line| line.contains(&picks) && !line.ends_with(" 0"))
        })
        .await;
        self.fleet.kill(doomed).await.expect("it is killed");
        self
    }

    /// Waits until everything that is counted only once it happens has happened.
    pub(crate) async fn until_all_has_happened(&self) {
        eventually(
            BOUND,
            "retries, hedges, an ejection, a connection lost and one refused",
            async || {
                let exported = self.exported().await;
                HAPPENINGS.iter().all(|name| exported.contains(*name))
            },
        )
        .await;
    }

    /// How many pages there are.
    pub(crate) fn targets(&self) -> usize {
        self.servers.len() + self.callers.len()
    }

    /// The pages as they are now; of a process that does not listen yet, an empty one.
    pub(crate) async fn pages(&self) -> Vec<String> {
        let mut pages = Vec::new();
        for port in self.servers.iter().chain(&self.callers) {
            let page = http::text(port.number(), "/metrics").await;
            pages.push(page.unwrap_or_default());
        }
        pages
    }

    /// The pages of the servers alone.
    pub(crate) async fn pages_of_servers(&self) -> Vec<String> {
        let mut pages = self.pages().await;
        pages.truncate(self.servers.len());
        pages
    }

    /// The names of all samples on the pages.
    pub(crate) async fn exported(&self) -> BTreeSet<String> {
        samples(&self.pages().await)
    }

    /// What makes a Prometheus scrape the pages, and evaluate those rules.
    pub(crate) fn configuration(&self, rules: &str) -> String {
        let targets = |ports: &[Port]| {
            let quoted = ports.iter().map(|port| format!("{:?}", port.address()));
            quoted.collect::<Vec<_>>().join(", ")
        };
        format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: [{rules:?}]\n\
             scrape_configs:\n\
             - {{ job_name: greeter, static_configs: [{{ targets: [{}] }}] }}\n\
             - {{ job_name: client, static_configs: [{{ targets: [{}] }}] }}\n",
            targets(&self.servers),
            targets(&self.callers),
        )
    }
}

/// The names of all samples on those pages.
pub(crate) fn samples(pages: &[String]) -> BTreeSet<String> {
    let samples = pages.iter().flat_map(|page| page.lines());
    let samples = samples.filter(|line| !line.starts_with('#'));
    let name = |line: &str| line.split(['{', ' ']).next().map(str::to_owned);
    samples.filter_map(name).collect()
}

/// Has the next process of the fleet listen for operators on a port that is known.
pub(crate) fn page_of_the_next(fleet: &mut Fleet) -> Port {
    let port = Port::free().expect("a port");
    fleet.set_env("DISCOVERY__ADMIN__LISTEN", &port.address());
    port
}

/// A greeter that shows that certificate, in a registry of its own, so that nobody calls it who shows none.
pub(crate) async fn secured(
    directory: &Path,
    authority: &Authority,
    own: &Signed,
) -> (Port, Fleet) {
    let ca = directory.join("ca.pem");
    fs::write(&ca, authority.certificate()).expect("it is written");
    let own = own.write(directory, "greeter").expect("it is written");
    let url = format!("file://{}/secured", directory.display());
    let mut fleet = Fleet::new(url).expect("the binaries are built");
    fleet.set_env("DISCOVERY__TLS__DOMAIN", "example.org");
    for (key, path) in [
        ("CA", ca),
        ("CERTIFICATE", own.certificate),
        ("KEY", own.key),
    ] {
        let path = path.to_str().expect("UTF-8");
        fleet.set_env(&format!("DISCOVERY__TLS__{key}"), path);
    }
    let page = page_of_the_next(&mut fleet);
    fleet.add().await.expect("a greeter");
    (page, fleet)
}

pub(crate) fn register(registry: &Registry, address: &str) -> Registration {
    let name = ServiceName::new("greeter").expect("a name");
    let address: Address = address.parse().expect("an address");
    registry.register(Instance::new(name, address), TTL)
}
