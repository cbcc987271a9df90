//! `--health-check`: asks the admin page of a running instance whether it is ready. An image without a shell has no
//! other way to ask.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::config::AdminListen;

const TIMEOUT: Duration = Duration::from_secs(3);
/// More than any reason for not being ready needs.
const MAX_ANSWER: u64 = 64 * 1024;

/// Asks the admin page that listens at `listen` for `/readyz`; gives what it answers when it is ready.
///
/// # Errors
/// When it is not ready, is not there, or cannot be found because its port is a free one.
pub async fn check(listen: AdminListen) -> anyhow::Result<String> {
    let address = match listen {
        AdminListen::Off => {
            bail!("admin.listen is \"off\": a health check needs an admin page to ask")
        }
        AdminListen::At(address) if address.port() == 0 => bail!(
            "admin.listen is {address}: a health check needs a fixed port to ask, such as {}:9090",
            address.ip()
        ),
        AdminListen::At(address) => reachable(address),
    };
    let answer = timeout(TIMEOUT, ask(address))
        .await
        .with_context(|| format!("the admin page at {address} did not answer within {TIMEOUT:?}"))?
        .with_context(|| format!("cannot ask the admin page at {address}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split_whitespace().nth(1) {
        Some("200") => Ok(body.to_owned()),
        Some(_) if !body.is_empty() => bail!("{}", body.trim_end()),
        _ => bail!("what listens at {address} is no admin page"),
    }
}

/// One request of HTTP/1.0: the answer ends with the connection and comes in one piece.
async fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").await?;
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
