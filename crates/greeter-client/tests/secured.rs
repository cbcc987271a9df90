//! Mutual TLS between the binaries, as processes: who may call whom, and certificates that change under load.

use std::{fs, path::Path, process::Command, time::Duration};

use balance::{Channel, ClientTls, WaitForReady};
use proto::helloworld::{HelloRequest, greeter_client::GreeterClient};
use tempfile::TempDir;
use testkit::{
    Port,
    fleet::Fleet,
    hostile::{Attack, Verdict},
    process::{Process, binary},
    tls::Authority,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::{Code, Request, Status};

/// More than anything here takes on a busy machine.
const BOUND: Duration = Duration::from_mins(1);
const GREETER: &str = "spiffe://example.org/greeter";
const CLIENT: &str = "spiffe://example.org/client";
const BASKET: &str = "spiffe://example.org/basket";

/// A trust domain's files, and the greeters and callers that live by them.
struct Domain {
    directory: TempDir,
    authority: Authority,
    fleet: Fleet,
}

impl Domain {
    fn new() -> Self {
        let directory = TempDir::new().expect("a directory");
        let registry = format!("file://{}/registry", directory.path().display());
        let mut domain = Self {
            fleet: Fleet::new(registry).expect("the binaries are built"),
            authority: Authority::new().expect("an authority"),
            directory,
        };
        domain.trust(&[&domain.authority]);
        domain.certify(&domain.authority);
        domain
            .fleet
            .set_env("DISCOVERY__TLS__DOMAIN", "example.org");
        // Whatever there is to be told must not tell a key.
        domain.fleet.set_env("DISCOVERY__LOG__LEVEL", "debug");
        domain
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn trust(&self, authorities: &[&Authority]) {
        let all = authorities.iter().map(|authority| authority.certificate());
        let all: Vec<_> = all.collect();
        fs::write(self.path().join("ca.pem"), all.concat()).expect("it is written");
    }

    /// New certificates for the greeter and its caller.
    fn certify(&self, authority: &Authority) {
        self.show("greeter", authority, GREETER);
        self.show("client", authority, CLIENT);
    }

    fn show(&self, name: &str, authority: &Authority, id: &str) {
        let signed = authority.sign_spiffe(id).expect("a certificate");
        signed.write(self.path(), name).expect("it is written");
    }

    /// Whatever is started next shows the certificate of that name.
    fn as_whom(&mut self, name: &str) {
        for (key, file) in [
            ("CA", "ca.pem".to_owned()),
            ("CERTIFICATE", format!("{name}.pem")),
            ("KEY", format!("{name}-key.pem")),
        ] {
            let path = self.directory.path().join(file);
            let path = path.to_str().expect("UTF-8").to_owned();
            self.fleet.set_env(&format!("DISCOVERY__TLS__{key}"), &path);
        }
    }

    async fn greeter(&mut self) -> String {
        self.as_whom("greeter");
        self.fleet.add().await.expect("a greeter")
    }

    /// Makes so many calls, none of which fails, as the caller of that name.
    async fn calls(&mut self, name: &str, count: usize) {
        self.as_whom(name);
        let count = count.to_string();
        let load = ["--count", &*count, "--concurrency", "4"];
        let told = ["--timeout", "30s", "--output", "json"];
        let client = self.fleet.client(&[&load[..], &told].concat());
        let client = client.expect("a client");
        let figures = client.figures(BOUND).await.expect("figures");
        assert_eq!(figures.failures, 0, "{}", figures.failures_in_words());
        self.keeps_its_keys_to_itself(client.process());
    }

    fn keeps_its_keys_to_itself(&self, process: &Process) {
        for name in ["greeter-key.pem", "client-key.pem"] {
            let key = fs::read_to_string(self.path().join(name)).expect("a key");
            let secret = key.lines().nth(1).expect("a line");
            for line in process.output() {
                assert!(!line.text.contains(secret), "{name}: {}", line.text);
            }
        }
    }

    fn trusted(&self) -> ClientTls {
        trusting(&self.authority)
    }

    /// What is called by whoever has that identity, at that address alone.
    fn caller(&self, id: &str, address: &str) -> GreeterClient<Channel> {
        let own = self.authority.sign_spiffe(id).expect("a certificate");
        let tls = self.trusted().with_identity(own.certificate, own.key);
        let channel = Channel::builder(format!("static:///{address}"));
        GreeterClient::new(channel.tls(tls).build().expect("a channel"))
    }
}

/// Calls nobody but greeters, whom that authority vouches for.
fn trusting(authority: &Authority) -> ClientTls {
    let domain = "example.org".parse().expect("a trust domain");
    ClientTls::new()
        .with_authorities(authority.certificate())
        .with_trust_domain(domain)
        .with_server_name("greeter")
}

/// A call to the greeter at that address.
async fn ask(address: &str, tls: ClientTls) -> Result<String, Status> {
    let channel = Channel::builder(format!("static:///{address}"));
    let channel = channel.tls(tls).build().expect("a channel");
    let mut request = Request::new(HelloRequest {
        name: "world".into(),
    });
    request.set_timeout(BOUND);
    let reply = GreeterClient::new(channel).say_hello(request).await?;
    Ok(reply.into_inner().message)
}

async fn refusal(address: &str, tls: ClientTls, code: Code) -> String {
    let status = ask(address, tls).await.expect_err("it is refused");
    assert_eq!(status.code(), code, "{status}");
    status.message().to_owned()
}

#[tokio::test]
async fn services_that_prove_who_they_are_call_one_another() {
    let mut domain = Domain::new();
    domain.greeter().await;
    domain.greeter().await;
    domain.calls("client", 200).await;
    for server in domain.fleet.servers() {
        domain.keeps_its_keys_to_itself(server.process());
    }
}

#[tokio::test]
async fn another_service_in_the_greeter_s_place_is_not_called() {
    let mut domain = Domain::new();
    domain.show("basket", &domain.authority, BASKET);
    // It would not start as the greeter if it looked who it is.
    domain.fleet.set_env("DISCOVERY__TLS__DOMAIN", "");
    domain.as_whom("basket");
    let impostor = domain.fleet.add().await.expect("it starts");
    domain
        .fleet
        .set_env("DISCOVERY__TLS__DOMAIN", "example.org");
    domain.as_whom("client");
    let client = domain.fleet.client(&["--count", "1"]).expect("a client");
    let told = format!("is for {BASKET} and not for {GREETER}");
    let says_why = client.process().wait_for_line(&told, BOUND).await;
    says_why.expect("it says whom it has found");

    let own = domain.authority.sign_spiffe(CLIENT).expect("a certificate");
    let tls = domain.trusted().with_identity(own.certificate, own.key);
    let message = refusal(&impostor, tls, Code::Unavailable).await;
    assert!(message.contains(&told), "{message}");
}

#[tokio::test]
async fn a_server_does_not_start_as_another_service() {
    let mut domain = Domain::new();
    domain.show("basket", &domain.authority, BASKET);
    domain.as_whom("basket");
    let refused = domain.fleet.add().await.expect_err("it does not start");
    let told = format!("basket.pem is for {BASKET} and not for {GREETER}");
    assert!(format!("{refused:#}").contains(&told), "{refused:#}");
}

#[tokio::test]
async fn a_caller_that_may_not_call_a_method_is_told_so() {
    let mut domain = Domain::new();
    domain.show("user", &domain.authority, "spiffe://example.org/user");
    let allow = r#"[{ method = "helloworld.Greeter/*", callers = ["user"] }]"#;
    domain.fleet.set_env("DISCOVERY__TLS__ALLOW", allow);
    let greeter = domain.greeter().await;
    domain.calls("user", 20).await;
    let own = domain.authority.sign_spiffe(CLIENT).expect("a certificate");
    let tls = domain.trusted().with_identity(own.certificate, own.key);
    let message = refusal(&greeter, tls, Code::PermissionDenied).await;
    assert_eq!(
        message,
        format!("{CLIENT} may not call helloworld.Greeter/SayHello of {GREETER}")
    );
}

#[tokio::test]
async fn each_method_is_for_those_whom_the_configuration_file_names() {
    let domain = Domain::new();
    let port = Port::free().expect("a port");
    let address = port.address();
    let configuration = format!(
        r#"
        [registry]
        url = "memory:"
        [server]
        listen = "{address}"
        [tls]
        ca = "{files}/ca.pem"
        certificate = "{files}/greeter.pem"
        key = "{files}/greeter-key.pem"
        domain = "example.org"
        [[tls.allow]]
        method = "helloworld.Greeter/SayHello"
        callers = ["client", "user"]
        [[tls.allow]]
        method = "helloworld.Greeter/SayHelloStreamReply"
        callers = ["user"]
        "#,
        files = domain.path().display(),
    );
    let file = domain.path().join("greeter.toml");
    fs::write(&file, configuration).expect("it is written");
    let mut command = Command::new(binary("greeter-server").expect("it is built"));
    command
        .arg("--config")
        .arg(&file)
        .env("XDG_RUNTIME_DIR", domain.path());
    let server = Process::spawn("greeter-server", command).expect("it starts");
    let listening = server.wait_for_line("listening", BOUND).await;
    listening.expect("it starts");
    let asked = || {
        let name = "world".into();
        let mut request = Request::new(HelloRequest { name });
        request.set_timeout(BOUND);
        request
    };

    let mut user = domain.caller("spiffe://example.org/user", &address);
    user.say_hello(asked()).await.expect("it may");
    let stream = user.say_hello_stream_reply(asked()).await;
    let first = stream.expect("it may").into_inner().message().await;
    first.expect("a greeting").expect("the first");

    let mut client = domain.caller(CLIENT, &address);
    let refused = client.say_hello_stream_reply(asked()).await;
    let refused = refused.expect_err("it may not");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert_eq!(
        refused.message(),
        format!("{CLIENT} may not call helloworld.Greeter/SayHelloStreamReply of {GREETER}")
    );
    // What it may, on the same connection.
    client.say_hello(asked()).await.expect("it may");

    let mut stranger = domain.caller(BASKET, &address);
    let refused = stranger.say_hello(asked()).await.expect_err("it may not");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert_eq!(
        refused.message(),
        format!("{BASKET} may not call helloworld.Greeter/SayHello of {GREETER}")
    );
}

#[tokio::test]
async fn a_stream_that_outlives_its_connection_s_age_is_told_so_and_may_begin_again() {
    let mut domain = Domain::new();
    for (key, value) in [("DRAIN_LIMIT", "1s"), ("LIMITS__CONNECTION_AGE", "1s")] {
        let key = format!("DISCOVERY__SERVER__{key}");
        domain.fleet.set_env(&key, value);
    }
    let greeter = domain.greeter().await;
    let mut client = domain.caller(CLIENT, &greeter);
    // Each on a connection of its own: nobody is served on one that has been told to go.
    for _ in 0..2 {
        let mut request = Request::new(futures_util::stream::pending());
        // Connections that nobody uses age as well, so fast that the channel takes a rest.
        request.extensions_mut().insert(WaitForReady(true));
        let stream = client.say_hello_bidi_stream(request).await;
        let mut stream = stream.expect("a stream").into_inner();
        let told = timeout(BOUND, stream.message()).await.expect("it ends");
        let told = told.expect_err("it has lasted too long");
        assert_eq!(told.code(), Code::Unavailable, "{told}");
        let message = told.message();
        assert!(message.contains("has reached its age"), "{told}");
    }
}

#[tokio::test]
async fn who_proves_nothing_is_not_served() {
    let mut domain = Domain::new();
    let greeter = domain.greeter().await;
    let trusted = domain.trusted();
    let stranger = Authority::new().expect("an authority");
    let expired = domain.authority.sign_spiffe_expired(CLIENT);
    let of_others = stranger.sign_spiffe(CLIENT);
    let nobody = domain.authority.sign_uris(&[]);

    let message = refusal(&greeter, trusted.clone(), Code::Unavailable).await;
    assert!(message.contains("CertificateRequired"), "{message}");
    for (signed, alert) in [(expired, "CertificateExpired"), (of_others, "alert")] {
        let signed = signed.expect("a certificate");
        let tls = trusted
            .clone()
            .with_identity(signed.certificate, signed.key);
        let message = refusal(&greeter, tls, Code::Unavailable).await;
        assert!(message.contains(alert), "{message}");
    }
    // An authority that is trusted vouches for it, and it says not for whom.
    let signed = nobody.expect("a certificate");
    let tls = trusted.with_identity(signed.certificate, signed.key);
    let message = refusal(&greeter, tls, Code::PermissionDenied).await;
    assert!(message.contains("0 URI names"), "{message}");

    let trusting_others = domain.trusted().with_authorities(stranger.certificate());
    let message = refusal(&greeter, trusting_others, Code::Unavailable).await;
    assert!(message.contains("not vouched for"), "{message}");
    domain.calls("client", 20).await;
}

#[tokio::test]
async fn all_certificates_and_their_authority_change_under_load_and_no_call_fails() {
    let mut domain = Domain::new();
    let first = domain.greeter().await;
    domain.as_whom("client");
    domain.fleet.set_env("DISCOVERY__LOG__LEVEL", "warn");
    let running = domain.fleet.client(&[
        "--forever",
        "--interval",
        "5ms",
        "--concurrency",
        "4",
        "--timeout",
        "30s",
        "--output",
        "json",
    ]);
    let running = running.expect("a client");
    domain.fleet.set_env("DISCOVERY__LOG__LEVEL", "debug");
    // The screen tells whom it calls.
    let called = async |address: &str| {
        let line = format!("{address} ");
        let line = running.process().wait_for_line(&line, BOUND).await;
        line.expect("it is called");
    };
    called(&first).await;

    // As anybody would who has to change all of it: first whom to trust, then who we are, then whom to trust no more.
    let next = Authority::new().expect("an authority");
    domain.trust(&[&domain.authority, &next]);
    domain.certify(&next);
    domain.trust(&[&next]);

    // Who starts now trusts nobody of before: neither the greeter that runs, unless it shows its new certificate and takes the
    // caller's, nor the caller that runs, unless it has taken up the files as well.
    let own = next.sign_spiffe(CLIENT).expect("a certificate");
    let renewed = trusting(&next).with_identity(own.certificate, own.key);
    ask(&first, renewed).await.expect("an answer");
    let second = domain.greeter().await;
    called(&second).await;
    domain.calls("client", 200).await;
    running.interrupt().expect("it runs");
    let figures = running.figures(BOUND).await.expect("figures");
    assert_eq!(figures.failures, 0, "{}", figures.failures_in_words());
    for address in [&first, &second] {
        assert!(figures.instances[address] > 0, "{:?}", figures.instances);
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_leave_those_before_in_force() {
    let mut domain = Domain::new();
    domain.greeter().await;
    domain.calls("client", 20).await;
    let key = domain.path().join("greeter-key.pem");
    let secret = fs::read_to_string(&key).expect("a key");
    fs::write(&key, secret.replace("PRIVATE", "PIRATE")).expect("it is written");
    let own = domain.authority.sign_spiffe(CLIENT).expect("a certificate");
    let tls = domain.trusted().with_identity(own.certificate, own.key);
    let address = domain.fleet.addresses()[0].clone();
    ask(&address, tls).await.expect("an answer");
    let server = domain.fleet.servers()[0].process();
    let told = "changed TLS files cannot be used";
    let line = server.wait_for_line(told, BOUND).await.expect("a warning");
    assert!(
        line.contains("greeter-key.pem: there is no private key"),
        "{line}"
    );
    domain.keeps_its_keys_to_itself(server);
}

#[tokio::test]
async fn an_authority_that_is_taken_out_vouches_for_nobody_any_more_though_it_does_for_the_greeter()
{
    let mut domain = Domain::new();
    let greeter = domain.greeter().await;
    domain.calls("client", 20).await;
    let next = Authority::new().expect("an authority");
    domain.trust(&[&next]);

    let of_before = domain.authority.sign_spiffe(CLIENT);
    let of_before = of_before.expect("a certificate");
    let tls = domain.trusted();
    let tls = tls.with_identity(of_before.certificate, of_before.key);
    let message = refusal(&greeter, tls, Code::Unavailable).await;
    assert!(message.contains("alert"), "{message}");

    // Who still trusts the greeter's own, and is trusted, is served.
    let renewed = next.sign_spiffe(CLIENT).expect("a certificate");
    let tls = domain.trusted();
    let tls = tls.with_identity(renewed.certificate, renewed.key);
    ask(&greeter, tls).await.expect("an answer");
    let told = "greeter.pem is vouched for by none of the authorities";
    let server = domain.fleet.servers()[0].process();
    server.wait_for_line(told, BOUND).await.expect("a warning");
}

#[tokio::test]
async fn handshakes_that_are_never_finished_hold_up_nobody() {
    let mut domain = Domain::new();
    let timeout_key = "DISCOVERY__SERVER__LIMITS__HANDSHAKE_TIMEOUT";
    domain.fleet.set_env(timeout_key, "1h");
    let greeter = domain.greeter().await;
    domain.fleet.remove_env(timeout_key);
    let mut idle = Vec::new();
    for _ in 0..100 {
        let mut socket = TcpStream::connect(&greeter).await.expect("it listens");
        // The head of a ClientHello that never comes.
        let head = [0x16, 0x03, 0x01, 0x02, 0x00];
        socket.write_all(&head).await.expect("it is taken");
        idle.push(socket);
    }
    domain.calls("client", 100).await;
    for mut socket in idle {
        let mut answer = [0];
        let read = timeout(Duration::ZERO, socket.read(&mut answer)).await;
        assert!(read.is_err(), "it still waits for the rest");
    }
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_given_up() {
    let mut domain = Domain::new();
    let timeout_key = "DISCOVERY__SERVER__LIMITS__HANDSHAKE_TIMEOUT";
    domain.fleet.set_env(timeout_key, "100ms");
    let greeter = domain.greeter().await;
    let server = greeter.parse().expect("an address");
    let verdict = Attack::SlowTlsHandshake.try_on(server).await;
    let verdict = verdict.expect("it is closed");
    assert_eq!(verdict, Verdict::Ended { code: None });
}

#[tokio::test]
async fn what_is_configured_by_half_is_refused_with_what_is_missing() {
    for (keys, told) in [
        (
            &[("CA", "/ca.pem")][..],
            "without tls.certificate and tls.key",
        ),
        (&[("DOMAIN", "example.org")], "without tls.ca"),
        (&[("DOMAIN", "Example.org")], "no trust domain"),
        (&[("ALLOW", "nonsense")], "tls.allow"),
    ] {
        let directory = TempDir::new().expect("a directory");
        let registry = format!("file://{}/registry", directory.path().display());
        let mut fleet = Fleet::new(registry).expect("the binaries are built");
        for (key, value) in keys {
            fleet.set_env(&format!("DISCOVERY__TLS__{key}"), value);
        }
        let refused = fleet.add().await.expect_err("it does not start");
        let refused = format!("{refused:#}");
        assert!(refused.contains(told), "{refused}");
    }
}
