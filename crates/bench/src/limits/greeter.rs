//! The server that is tried.

use std::{fs, net::SocketAddr, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result};
use balance::ClientTls;
use nix::unistd::{SysconfVar, sysconf};
use tempfile::TempDir;
use testkit::{
    Port,
    process::{Process, binary},
    tls::Authority,
};

use crate::peers::connected;

/// How long it may take to start.
const STARTED: Duration = Duration::from_secs(30);

/// A greeter-server with its default limits and a registry of its own, and a channel to it.
pub(super) struct Greeter {
    pub(super) address: SocketAddr,
    pub(super) channel: balance::Channel,
    process: Process,
    _port: Port,
    // The last to go: the process writes to it.
    _directory: TempDir,
}

impl Greeter {
    /// With mutual TLS, or without.
    pub(super) async fn start(is_secured: bool) -> Result<Self> {
        let (port, directory) = (Port::free()?, tempfile::tempdir()?);
        let address = port.address();
        let mut command = Command::new(binary("greeter-server")?);
        let url = format!("file://{}/registry", directory.path().display());
        command.args(["--listen", &address, "--registry", &url]);
        let mut caller = balance::Channel::builder(format!("static:///{address}"));
        if is_secured {
            caller = caller.tls(secured(&mut command, directory.path())?);
        }
        let process = Process::spawn("greeter-server", command)?;
        process.wait_for_line("listening", STARTED).await?;
        Ok(Self {
            address: address.parse()?,
            channel: connected(caller).await?,
            process,
            _port: port,
            _directory: directory,
        })
    }

    /// What it holds in memory, in MiB.
    pub(super) fn resident(&self) -> Result<f64> {
        let path = format!("/proc/{}/statm", self.process.pid());
        let statm = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let pages: f64 = statm.split(' ').nth(1).context("no size")?.parse()?;
        let page = sysconf(SysconfVar::PAGE_SIZE)?.context("no page size")?;
        Ok(pages * page as f64 / (1024.0 * 1024.0))
    }
}

/// Certificates of a domain of its own: the greeter's files in that directory, of which it is told, and what its caller shows.
fn secured(greeter: &mut Command, directory: &Path) -> Result<ClientTls> {
    const DOMAIN: &str = "example.org";
    let authority = Authority::new()?;
    let sign = |name| authority.sign_spiffe(&format!("spiffe://{DOMAIN}/{name}"));
    let ca = directory.join("ca.pem");
    fs::write(&ca, authority.certificate())?;
    let own = sign("greeter")?.write(directory, "greeter")?;
    greeter
        .env("DISCOVERY__TLS__CA", ca)
        .env("DISCOVERY__TLS__CERTIFICATE", own.certificate)
        .env("DISCOVERY__TLS__KEY", own.key)
        .env("DISCOVERY__TLS__DOMAIN", DOMAIN);
    let caller = sign("client")?;
    Ok(ClientTls::new()
        .with_authorities(authority.certificate())
        .with_identity(caller.certificate, caller.key)
        .with_trust_domain(DOMAIN.parse()?)
        .with_server_name("greeter"))
}
