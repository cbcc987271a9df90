//! `--health-check` and `--admin-page`: asks the admin page of a running instance whether it is ready, or for any page. An image
//! without a shell has no other way to ask.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::config::AdminListen;

const TIMEOUT: Duration = Duration::from_secs(3);
/// In bytes; more than the metrics of ten thousand endpoints.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;

/// Asks the admin page that listens at `listen` for `/readyz`; gives what it answers when it is ready.
///
/// # Errors
/// When it is not ready, is not there, or cannot be found because its port is a free one.
pub async fn check(listen: AdminListen) -> anyhow::Result<String> {
    page(listen, "/readyz").await
}

/// What the admin page that listens at `listen` shows at `path`, such as `/metrics`.
///
/// # Errors
/// When it has no such page, is not there, or cannot be found because its port is a free one; what it answers instead is
/// in the error.
pub async fn page(listen: AdminListen, path: &str) -> anyhow::Result<String> {
    let is_path = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
    ensure!(is_path, "{path:?} is no path; one is /metrics");
    let address = match listen {
        AdminListen::Off => {
            bail!("admin.listen is \"off\": there is no admin page to ask")
        }
        AdminListen::At(address) if address.port() == 0 => bail!(
            "admin.listen is {address}: to be asked it needs a fixed port, such as {}:9090",
            address.ip()
        ),
        AdminListen::At(address) => reachable(address),
    };
    let answer = timeout(TIMEOUT, ask(address, path))
        .await
        .with_context(|| format!("the admin page at {address} did not answer within {TIMEOUT:?}"))?
        .with_context(|| format!("cannot ask the admin page at {address}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split_whitespace().nth(1) {
        Some("200") => Ok(body.to_owned()),
        Some(_) if !body.is_empty() => bail!("{}", body.trim_end()),
        Some("404") => bail!("the admin page at {address} has no {path}"),
        _ => bail!("what listens at {address} is no admin page"),
    }
}

/// One request of HTTP/1.0: the answer ends with the connection and comes in one piece.
async fn ask(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Who listens on every address is asked on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
