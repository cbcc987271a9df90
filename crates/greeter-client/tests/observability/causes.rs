//! What alerts are for, brought about on real processes: each under a job of its own, at which Prometheus looks.

use std::{
    fs,
    process::Command,
    time::{Duration, SystemTime},
};

use balance::Channel;
use proto::user::v1::{
    CreateUserRequest, GreetUserRequest, User, user_service_client::UserServiceClient,
};
use registry::{Document, ServiceName};
use tempfile::TempDir;
use testkit::{
    Port, Unable,
    etcd::{Cluster, ClusterOptions},
    eventually,
    fleet::{Client, Fleet},
    http,
    link::Link,
    process::{Process, binary},
    tls::Authority,
};
use tokio::{net::TcpStream, task::JoinSet};
use tonic::Request;

use crate::scene::{BOUND, page_of_the_next, register, secured};

const DAY: Duration = Duration::from_hours(24);
/// How many file descriptors the server has that is to run out of them.
const DESCRIPTORS: u64 = 128;
/// Keeps calls from who fails, for good, unless those are too many.
const EJECTING: &str = r#"{
  "loadBalancingConfig": [{"panic_threshold": {"childPolicy": [{"outlier_detection": {
    "interval": "0.2s", "baseEjectionTime": "60s", "maxEjectionPercent": 100,
    "consecutiveFailures": {"threshold": 3}, "childPolicy": [{"round_robin": {}}]
  }}]}}]
}"#;
const CALLING: [&str; 3] = ["--forever", "--interval", "20ms"];

/// Something that is to live as long as the causes do.
trait Kept {}
impl<T> Kept for T {}

/// All that is wrong, for as long as this lives.
pub(crate) struct Causes {
    directory: TempDir,
    jobs: Vec<(&'static str, Port)>,
    /// The members of an etcd, at which Prometheus looks as one job.
    members: Vec<String>,
    kept: Vec<Box<dyn Kept>>,
    /// Takes all that the machine has, so it is for as short as can be.
    eager: Option<Client>,
}

impl Causes {
    pub(crate) async fn begin() -> Self {
        let mut causes = Self {
            directory: tempfile::tempdir().expect("a directory"),
            jobs: Vec::new(),
            members: Vec::new(),
            kept: Vec::new(),
            eager: None,
        };
        causes.nothing().await;
        causes.nobody_there();
        causes.a_storage_that_is_not_there();
        causes.instances_that_cannot().await;
        causes.a_dependency_that_hangs().await;
        causes.many_connections().await;
        causes.a_certificate_that_nobody_renews().await;
        causes.one_address_for_two().await;
        causes.a_registry_that_is_gone().await;
        causes.too_few_members().await;
        causes.more_than_a_thread_can_do().await;
        causes
    }

    /// What makes a Prometheus look at all of them, and evaluate those rules.
    pub(crate) fn configuration(&self, rules: &str) -> String {
        let jobs = self.jobs.iter().map(|(job, port)| {
            let page = port.address();
            format!("- {{ job_name: {job}, static_configs: [{{ targets: [{page:?}] }}] }}\n")
        });
        let members = &self.members;
        let members =
            format!("- {{ job_name: etcd, static_configs: [{{ targets: {members:?} }}] }}\n");
        let often = "{ scrape_interval: 500ms, evaluation_interval: 500ms }";
        let jobs: String = jobs.collect();
        format!("global: {often}\nrule_files: [{rules:?}]\nscrape_configs:\n{jobs}{members}")
    }

    /// Gives the callers of nobody a service config that none can use.
    pub(crate) async fn misconfigure(&self) {
        let registry = registry::connect(&self.url("nobody")).expect("a registry");
        let config = Document::new(r#"{"loadBalancingConfig": [{"nonesuch": {}}]}"#);
        let greeter = ServiceName::new("greeter").expect("a name");
        let written = registry.set_document(&greeter, config.expect("a text"));
        written.await.expect("it is written");
    }

    /// Ends what a thread cannot do.
    pub(crate) fn leave_the_thread_alone(&mut self) {
        self.eager = None;
    }

    fn url(&self, name: &str) -> String {
        format!("file://{}/{name}", self.directory.path().display())
    }

    /// A fleet in a registry of its own.
    fn fleet(&self, name: &str) -> Fleet {
        Fleet::new(self.url(name)).expect("the binaries are built")
    }

    /// Has Prometheus look at the next process of the fleet, as that job.
    fn look(&mut self, job: &'static str, fleet: &mut Fleet) {
        self.jobs.push((job, page_of_the_next(fleet)));
    }

    fn keep(&mut self, what: impl Kept + 'static) {
        self.kept.push(Box::new(what));
    }

    async fn nothing(&mut self) {
        let mut fleet = self.fleet("well");
        self.look("well", &mut fleet);
        fleet.add().await.expect("a greeter");
        self.look("well-caller", &mut fleet);
        self.keep(client(&fleet, &[]));
        self.keep(fleet);
    }

    /// An instance that is gone, and a caller who finds none.
    fn nobody_there(&mut self) {
        self.jobs.push(("gone", Port::free().expect("a port")));
        let mut fleet = self.fleet("nobody");
        self.look("nobody", &mut fleet);
        self.keep(client(&fleet, &["--fail-fast"]));
    }

    /// A user service that cannot begin to serve.
    fn a_storage_that_is_not_there(&mut self) {
        let [page, nobody] = [(); 2].map(|()| Port::free().expect("a port"));
        let mut command = Command::new(binary("user-service").expect("it is built"));
        let storage = format!("postgres://ann@{}/users", nobody.address());
        command
            .env("DISCOVERY__REGISTRY__URL", self.url("unready"))
            .env("DISCOVERY__ADMIN__LISTEN", page.address())
            .env("DISCOVERY__STORAGE__URL", storage);
        let service = Process::spawn("user-service", command).expect("it starts");
        self.jobs.push(("unready", page));
        self.keep((service, nobody));
    }

    /// Two instances of three fail all calls. One caller tries again, and its collector is not there; another one stops calling them.
    async fn instances_that_cannot(&mut self) {
        let mut fleet = self.fleet("unable");
        fleet.add().await.expect("a greeter");
        let registry = registry::connect(&self.url("unable")).expect("a registry");
        for _ in 0..2 {
            let unable = Unable::start().await.expect("a server");
            self.keep(register(&registry, unable.address()));
            self.keep(unable);
        }
        self.look("ejecting", &mut fleet);
        self.keep(client(&fleet, &["--service-config", EJECTING]));
        self.look("retrying", &mut fleet);
        let nobody = Port::free().expect("a port");
        let collector = format!("http://{}", nobody.address());
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.as_str()),
            ("OTEL_METRICS_EXPORTER", "otlp"),
            ("OTEL_BSP_SCHEDULE_DELAY", "200"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "200"),
        ] {
            fleet.set_env(name, value);
        }
        self.keep(client(&fleet, &[]));
        self.keep((fleet, nobody));
    }

    /// A user service whose greeter answers no call. One that was stopped as a whole would be taken for dead after a while, and calls
    /// would fail at once.
    async fn a_dependency_that_hangs(&mut self) {
        let registry = registry::connect(&self.url("hung")).expect("a registry");
        let greeter = Unable::hanging().await.expect("a server");
        let registration = register(&registry, greeter.address());
        let page = Port::free().expect("a port");
        let mut command = Command::new(binary("user-service").expect("it is built"));
        command
            .env("DISCOVERY__REGISTRY__URL", self.url("hung"))
            .env("DISCOVERY__ADMIN__LISTEN", page.address())
            .env("XDG_DATA_HOME", self.directory.path().join("data"));
        let service = Process::spawn("user-service", command).expect("it starts");
        let channel = Channel::builder("user").registry(&registry);
        let mut users = UserServiceClient::new(channel.build().expect("a channel"));
        let ann = CreateUserRequest {
            user_id: "ann".into(),
            user: Some(User {
                email: "ann@example.com".into(),
                ..User::default()
            }),
            ..CreateUserRequest::default()
        };
        let mut request = Request::new(ann);
        request.extensions_mut().insert(balance::WaitForReady(true));
        request.set_timeout(BOUND);
        users.create_user(request).await.expect("ann is created");
        let mut callers = JoinSet::new();
        for _ in 0..4 {
            let mut users = users.clone();
            callers.spawn(async move {
                loop {
                    let ann = GreetUserRequest {
                        name: "users/ann".into(),
                    };
                    let answer = users.greet_user(ann).await;
                    answer.expect_err("nobody greets");
                }
            });
        }
        self.jobs.push(("hung", page));
        self.keep((service, greeter, registration, registry, callers));
    }

    /// A server of few file descriptors, to which many connect.
    async fn many_connections(&mut self) {
        let [page, port] = [(); 2].map(|()| Port::free().expect("a port"));
        let limited = format!("ulimit -n {DESCRIPTORS}; exec \"$@\"");
        let mut command = Command::new("sh");
        command
            .args(["-ec", &limited, "sh"])
            .arg(binary("greeter-server").expect("it is built"))
            .args(["--registry", &self.url("full"), "--listen", &port.address()])
            .env("DISCOVERY__ADMIN__LISTEN", page.address())
            .env("DISCOVERY__SERVER__LIMITS__HANDSHAKE_TIMEOUT", "1h");
        let server = Process::spawn("greeter-server", command).expect("it starts");
        server
            .wait_for_line("registered", BOUND)
            .await
            .expect("it serves");
        let open = async || {
            let metrics = http::text(page.number(), "/metrics").await;
            let metrics = metrics.expect("a page");
            let line = metrics
                .lines()
                .find(|line| line.starts_with("process_open_fds"));
            let open = line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
            open.expect("a number")
        };
        let nearly_all = DESCRIPTORS * 9 / 10;
        let mut connections = Vec::new();
        for _ in open().await..nearly_all {
            let connection = TcpStream::connect(port.address()).await;
            connections.push(connection.expect("it is accepted"));
        }
        let are_open = async || open().await >= nearly_all;
        eventually(BOUND, "most descriptors to be open", are_open).await;
        self.jobs.push(("full", page));
        self.keep((server, port, connections));
    }

    async fn a_certificate_that_nobody_renews(&mut self) {
        let authority = Authority::new().expect("an authority");
        let signed = authority.sign_spiffe_with("spiffe://example.org/greeter", |params| {
            let now = SystemTime::now();
            params.not_before = (now - 89 * DAY).into();
            params.not_after = (now + DAY / 2).into();
        });
        let signed = signed.expect("a certificate");
        let directory = self.directory.path().join("certificates");
        fs::create_dir(&directory).expect("a directory");
        let (page, fleet) = secured(&directory, &authority, &signed).await;
        self.jobs.push(("expiring", page));
        self.keep(fleet);
    }

    /// The address of a process moves to a later one, and the earlier one lives on.
    async fn one_address_for_two(&mut self) {
        let mut fleet = self.fleet("superseded");
        let [earlier, later] = [(); 2].map(|()| Port::free().expect("a port"));
        let link = Link::to(&earlier.address()).await.expect("a link");
        self.look("superseded", &mut fleet);
        let added = fleet.add_behind(earlier, link.address()).await;
        added.expect("the earlier");
        let registered = fleet.servers()[0]
            .process()
            .wait_for_line("registered", BOUND);
        registered.await.expect("it registers");
        link.lead_to(&later.address());
        fleet.remove_env("DISCOVERY__ADMIN__LISTEN");
        let added = fleet.add_behind(later, link.address()).await;
        added.expect("the later");
        self.keep((fleet, link));
    }

    /// A server and a caller whose etcd is killed.
    async fn a_registry_that_is_gone(&mut self) {
        let mut cluster = Cluster::start_one().await.expect("an etcd");
        let mut fleet = Fleet::new(cluster.url("cut")).expect("the binaries are built");
        fleet.set_env("DISCOVERY__REGISTRY__TTL", "2s");
        self.look("cut", &mut fleet);
        let greeter = fleet.add().await.expect("a greeter");
        self.look("cut-caller", &mut fleet);
        let caller = client(&fleet, &["--concurrency", "2"]);
        let answers = format!("{greeter} ");
        let line = caller.process().wait_for_line(&answers, BOUND).await;
        line.expect("the greeter is called");
        cluster.stop_all().await.expect("etcd is killed");
        self.keep((cluster, fleet, caller));
    }

    /// Members with next to no quota, two of three killed.
    async fn too_few_members(&mut self) {
        let options = ClusterOptions {
            arguments: vec!["--quota-backend-bytes=21000".into()],
            ..ClusterOptions::default()
        };
        let mut cluster = Cluster::start_like(3, options).await.expect("an etcd");
        self.members = cluster.endpoints();
        for member in [0, 1] {
            cluster.kill(member).await.expect("it is killed");
        }
        self.keep(cluster);
    }

    /// A server of one thread, and callers who ask without a pause.
    async fn more_than_a_thread_can_do(&mut self) {
        let mut fleet = self.fleet("busy");
        fleet.set_env("TOKIO_WORKER_THREADS", "1");
        self.look("busy", &mut fleet);
        fleet.add().await.expect("a greeter");
        for name in ["TOKIO_WORKER_THREADS", "DISCOVERY__ADMIN__LISTEN"] {
            fleet.remove_env(name);
        }
        let without_a_pause = ["--forever", "--interval", "0s", "--concurrency", "128"];
        let eager = fleet.client(&[&without_a_pause[..], &["--timeout", "30s"]].concat());
        self.eager = Some(eager.expect("a client"));
        self.keep(fleet);
    }
}

fn client(fleet: &Fleet, more: &[&str]) -> Client {
    let client = fleet.client(&[&CALLING[..], more].concat());
    client.expect("a client")
}
