//! Whether an instance answers.

use std::{process::Stdio, str::FromStr};

use anyhow::{Context, Result, anyhow, bail, ensure};
use balance::{Channel, ClientTls, trace::Tracing};
use http::Uri;
use registry::{Address, ServiceName};
use tokio::process::Command;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::job::Job;
use crate::{page, reach};

/// A check as the command line names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CheckKind {
    /// gRPC's health protocol, asked about a service, which may be the empty name.
    Grpc(String),
    /// It takes connections.
    Tcp,
    /// The page answers with 2xx.
    Http(Uri),
    /// The command, run by a shell, exits with 0. What it leaves running is killed, also when it is cut off.
    Exec(String),
}

impl FromStr for CheckKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "grpc" => Ok(Self::Grpc(String::new())),
            None if text == "tcp" => Ok(Self::Tcp),
            Some(("grpc", service)) => Ok(Self::Grpc(service.to_owned())),
            Some(("http", url)) => match url.parse::<Uri>() {
                Ok(uri) if uri.scheme_str() == Some("http") => Ok(Self::Http(uri)),
                _ => Err(format!(
                    "{url:?} is no http://HOST:PORT/PATH; of https, exec=COMMAND may ask"
                )),
            },
            Some(("exec", command)) if !command.trim().is_empty() => {
                Ok(Self::Exec(command.to_owned()))
            }
            _ => Err("a check is grpc, grpc=SERVICE, tcp, http=URL or exec=COMMAND".into()),
        }
    }
}

/// gRPC's health protocol, spoken as the instance's callers would.
#[derive(Debug)]
pub(super) struct GrpcCheck {
    target: String,
    /// The service that is asked about.
    about: String,
    /// Without it, in clear.
    tls: Option<ClientTls>,
    tracing: Tracing,
}

/// A check of a certain instance.
#[derive(Debug)]
pub(super) enum Check {
    Grpc(GrpcCheck),
    Tcp(Address),
    Http(Uri),
    Exec(String),
}

impl Check {
    /// Of the instance of `service` at `address`; whom it speaks gRPC with has to prove that it is that service, where there is
    /// `tls`.
    pub(super) fn new(
        kind: CheckKind,
        service: &ServiceName,
        address: &Address,
        tls: Option<ClientTls>,
        tracing: Tracing,
    ) -> Self {
        match kind {
            CheckKind::Grpc(about) => Self::Grpc(GrpcCheck {
                target: format!("static:///{address}?service={service}"),
                about,
                tls,
                tracing,
            }),
            CheckKind::Tcp => Self::Tcp(address.clone()),
            CheckKind::Http(uri) => Self::Http(uri),
            CheckKind::Exec(command) => Self::Exec(command),
        }
    }

    /// Makes it once; the caller sets a bound. An error says what was wrong. Cancellation safe.
    pub(super) async fn make(&self) -> Result<()> {
        match self {
            Self::Grpc(check) => check.make().await,
            Self::Tcp(address) => reach::connect(address).await,
            Self::Http(uri) => http(uri).await,
            Self::Exec(command) => exec(command).await,
        }
    }
}

impl GrpcCheck {
    /// By a channel of its own: one that had failed before would wait longer and longer before it connects again. So it has no
    /// meter, which holds the instruments of each channel for ever; the check is measured as a whole.
    async fn make(&self) -> Result<()> {
        let mut channel = Channel::builder(&self.target)
            .user_agent(concat!(
                env!("CARGO_PKG_NAME"),
                "/",
                env!("CARGO_PKG_VERSION")
            ))
            .tracing(&self.tracing);
        if let Some(tls) = &self.tls {
            channel = channel.tls(tls.clone());
        }
        let mut client = HealthClient::new(channel.build()?);
        let service = self.about.clone();
        let answer = client.check(HealthCheckRequest { service }).await;
        let answer = answer.map_err(|status| anyhow!("{}: {}", status.code(), status.message()))?;
        match answer.get_ref().status() {
            ServingStatus::Serving => Ok(()),
            status => bail!("it says that it is {}", status.as_str_name()),
        }
    }
}

async fn http(uri: &Uri) -> Result<()> {
    let status = page::get(uri).await?.status;
    ensure!(status.is_success(), "{uri} answers {status}");
    Ok(())
}

async fn exec(command: &str) -> Result<()> {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut shell = Job::start(&mut shell).context("cannot start a shell")?;
    let ended = shell.ended().await.context("the shell is lost")?;
    ensure!(ended.success(), "{command:?} ended with {ended}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        thread,
    };

    use service_kit::Telemetry;
    use testkit::Port;

    use super::{Address, Check, CheckKind, ServiceName};

    fn check(text: &str, address: &str) -> Check {
        let address = Address::new(address).expect("an address");
        let service = ServiceName::new("web").expect("a name");
        let nowhere = Telemetry::metrics_only().expect("metrics").tracing("test");
        Check::new(text.parse().expect(text), &service, &address, None, nowhere)
    }

    async fn failure(check: Check) -> String {
        format!("{:#}", check.make().await.expect_err("it fails"))
    }

    #[test]
    fn what_is_no_check_is_refused_with_what_is() {
        for (text, named) in [
            ("ping", "grpc, grpc=SERVICE, tcp"),
            ("exec=", "exec=COMMAND"),
            ("http=10.0.0.1/x", "http://HOST:PORT/PATH"),
            ("http=https://h/x", "https"),
        ] {
            let refused = text.parse::<CheckKind>().expect_err(text);
            assert!(refused.contains(named), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_port_answers_while_somebody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        check("tcp", &address).make().await.expect("it listens");
        let address = Port::free()
            .expect("a port that nobody listens at")
            .address();
        let refused = failure(check("tcp", &address)).await;
        assert!(refused.contains(&address), "{refused}");
        let refused = failure(check("grpc", &address)).await;
        assert!(refused.contains("refused"), "{refused}");
    }

    #[tokio::test]
    async fn a_page_is_healthy_by_its_status() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!(
            "http=http://{}/healthz",
            listener.local_addr().expect("an address")
        );
        let answers = thread::spawn(move || {
            for status in ["204 No Content", "503 Service Unavailable"] {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut asked = [0; 1024];
                let length = stream.read(&mut asked).expect("a request");
                let asked = String::from_utf8_lossy(&asked[..length]);
                assert!(asked.starts_with("GET /healthz HTTP/1.1\r\n"), "{asked}");
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).expect("it is read");
            }
        });
        check(&url, "h:1").make().await.expect("204 is well");
        let refused = failure(check(&url, "h:1")).await;
        assert!(refused.contains("503"), "{refused}");
        answers.join().expect("both were asked");
    }

    #[tokio::test]
    async fn a_command_is_healthy_by_its_code() {
        check("exec=test 1 = 1", "h:1").make().await.expect("it is");
        let refused = failure(check("exec=exit 3", "h:1")).await;
        assert!(
            refused.contains("exit 3") && refused.contains('3'),
            "{refused}"
        );
    }
}
