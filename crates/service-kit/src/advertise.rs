//! Which address callers are told.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, bail};
use futures_util::future::join_all;
use registry::Address;
use tokio::{
    net::{UdpSocket, lookup_host},
    time::timeout,
};

use crate::config::Advertise;

/// Names of etcd members are looked up before serving starts: not for longer than this.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
const ETCD_PORT: u16 = 2379;
/// Addresses for documentation (RFC 5737, RFC 3849): routed like any other, and nobody's.
const ANYWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];
const WAY_OUT: &str = "set server.advertise (--advertise) to the address by which callers reach this host, HOST or HOST:PORT";

/// The address to advertise for a server that listens on `listening` and registers at `registry` (a URL).
///
/// # Errors
/// When the address could not be called by anybody, or none can be found.
pub(crate) async fn address(
    advertise: &Advertise,
    listening: SocketAddr,
    registry: &str,
) -> anyhow::Result<Address> {
    let address = match advertise {
        Advertise::Address(address) => address.clone(),
        Advertise::Host(host) => Address::new(&format!("{host}:{}", listening.port()))?,
        Advertise::Auto => {
            let ip = auto(listening.ip(), registry).await?;
            Address::from(SocketAddr::new(ip, listening.port()))
        }
    };
    let unspecified = |ip: SocketAddr| ip.ip().is_unspecified();
    if address.socket_addr().is_some_and(unspecified) {
        bail!("{address} cannot be advertised: nobody can call it; {WAY_OUT}");
    }
    Ok(address)
}

async fn auto(listening: IpAddr, registry: &str) -> anyhow::Result<IpAddr> {
    if !listening.is_unspecified() {
        return Ok(listening);
    }
    let members = resolved(members(registry)).await;
    let anywhere = ANYWHERE.map(|ip| SocketAddr::new(ip, ETCD_PORT));
    for target in members.into_iter().chain(anywhere) {
        if let Some(ip) = source_towards(target, listening).await {
            return Ok(ip);
        }
    }
    let one_machine = registry.starts_with("file:") || registry.starts_with("memory:");
    let loopback = match listening {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    one_machine
        .then_some(loopback)
        .with_context(|| format!("cannot tell by which address callers reach this host; {WAY_OUT}"))
}

/// The `host:port` of each member in an etcd's URL; none for any other registry.
fn members(registry: &str) -> Vec<String> {
    let rest = registry
        .strip_prefix("etcd://")
        .or_else(|| registry.strip_prefix("etcds://"))
        .unwrap_or_default();
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let hosts = authority
        .rsplit_once('@')
        .map_or(authority, |(_, hosts)| hosts);
    let complete = |host: &str| match Address::new(host) {
        Ok(_) => host.to_owned(),
        Err(_) => format!("{host}:{ETCD_PORT}"),
    };
    hosts
        .split(',')
        .filter(|host| !host.is_empty())
        .map(complete)
        .collect()
}

/// The addresses of those hosts. A name that cannot be resolved now leaves the others, and the default route.
async fn resolved(hosts: Vec<String>) -> Vec<SocketAddr> {
    let lookups = hosts
        .into_iter()
        .map(|host| timeout(LOOKUP_TIMEOUT, lookup_host(host)));
    let found = join_all(lookups).await;
    found.into_iter().flatten().flatten().flatten().collect()
}

/// The address from which this host sends to `target`, when a server on `listening` can be reached there. Connecting
/// a UDP socket chooses the route and sends nothing.
async fn source_towards(target: SocketAddr, listening: IpAddr) -> Option<IpAddr> {
    if listening.is_ipv4() && !target.is_ipv4() {
        return None;
    }
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await.ok()?;
    socket.connect(target).await.ok()?;
    let source = socket.local_addr().ok()?.ip();
    (!source.is_unspecified()).then_some(source)
}

#[cfg(test)]
mod tests {
    use super::{Advertise, SocketAddr, address, members};

    async fn advertised(
        advertise: &str,
        listening: &str,
        registry: &str,
    ) -> anyhow::Result<String> {
        let advertise: Advertise = advertise.parse()?;
        let listening: SocketAddr = listening.parse()?;
        Ok(address(&advertise, listening, registry).await?.to_string())
    }

    #[tokio::test]
    async fn what_is_given_is_advertised_and_a_host_gets_the_port_listened_on() {
        for (advertise, expected) in [
            ("10.0.0.7:99", "10.0.0.7:99"),
            ("greeter-0.example", "greeter-0.example:5"),
            ("[fd00::7]", "[fd00::7]:5"),
        ] {
            let address = advertised(advertise, "0.0.0.0:5", "memory:").await;
            assert_eq!(address.expect(advertise), expected);
        }
    }

    #[tokio::test]
    async fn a_concrete_address_is_advertised_as_it_is() {
        for listening in ["127.0.0.1:5", "10.1.2.3:5", "[::1]:5"] {
            let address = advertised("auto", listening, "etcd://127.0.0.1:2379").await;
            assert_eq!(address.expect("an address"), listening);
        }
    }

    #[tokio::test]
    async fn who_listens_everywhere_advertises_where_it_reaches_the_registry() {
        for registry in [
            "etcd://127.0.0.1:2379",
            "etcd://ann@127.0.0.1:2379/ns",
            "etcd://127.0.0.1",
        ] {
            let address = advertised("auto", "0.0.0.0:5", registry).await;
            assert_eq!(address.expect("an address"), "127.0.0.1:5");
        }
    }

    #[tokio::test]
    async fn who_listens_everywhere_on_a_file_registry_advertises_some_address_of_this_host() {
        for listening in ["0.0.0.0:5", "[::]:5"] {
            let address = advertised("auto", listening, "file:///run/discovery")
                .await
                .expect("one");
            let address: SocketAddr = address.parse().expect("an IP address");
            assert!(
                !address.ip().is_unspecified() && address.port() == 5,
                "{address}"
            );
        }
    }

    #[tokio::test]
    async fn an_address_that_nobody_can_call_is_refused_with_the_way_out() {
        for bad in ["0.0.0.0:5", "[::]:5", "0.0.0.0"] {
            let error = advertised(bad, "0.0.0.0:5", "memory:")
                .await
                .expect_err(bad);
            assert!(error.to_string().contains("--advertise"), "{error}");
        }
    }

    #[test]
    fn members_are_read_from_an_etcd_url_only() {
        assert_eq!(
            members("etcd://u:p@a:1,b,[::1]:3/ns?x=y"),
            ["a:1", "b:2379", "[::1]:3"]
        );
        assert!(members("file:///a:1").is_empty());
    }
}
