//! Who may connect: so many in all, and so many from one address.
//!
//! Whoever comes beyond that is closed at once instead of being left in the kernel's queue: so it knows, and goes to another
//! instance, where in the queue it would wait for its own timeout.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use opentelemetry::{KeyValue, metrics::Meter};
use rustc_hash::FxHashMap;

use super::refused::Refused;
use crate::config::{LimitsConfig, as_usize};

/// Counts connections, and refuses those beyond the limits. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    most_of_an_address: usize,
    control_frames: u32,
    connected: Mutex<Connected>,
    refused: [Refused; Refusal::ALL.len()],
}

#[derive(Debug, Default)]
struct Connected {
    all: usize,
    by_address: FxHashMap<IpAddr, usize>,
}

/// Why a connection is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There are as many as there may be.
    Connections,
    /// There are as many of its address as there may be.
    ConnectionsPerAddress,
    /// It has not begun to speak HTTP/2 in time.
    Handshake,
    /// It has sent more frames that ask for nothing than it may.
    ControlFrames,
    /// Its TLS handshake has failed.
    Tls,
}

impl Refusal {
    const ALL: [Self; 5] = [
        Self::Connections,
        Self::ConnectionsPerAddress,
        Self::Handshake,
        Self::ControlFrames,
        Self::Tls,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::Handshake => "handshake_timeout",
            Self::ControlFrames => "control_frames",
            Self::Tls => "tls",
        }
    }

    /// The limit's key.
    fn limit(self) -> String {
        format!("server.limits.{}", self.name())
    }
}

impl Admission {
    /// Nobody is connected yet.
    pub(crate) fn new(limits: &LimitsConfig, meter: &Meter) -> Self {
        let admission = Self(Arc::new(Inner {
            most: as_usize(limits.connections),
            most_of_an_address: as_usize(limits.connections_per_address),
            control_frames: limits.control_frames.get(),
            connected: Mutex::default(),
            refused: Default::default(),
        }));
        admission.observe(meter);
        admission
    }

    fn observe(&self, meter: &Meter) {
        let observed = self.clone();
        meter
            .u64_observable_gauge("discovery.server.connections")
            .with_unit("{connection}")
            .with_description("Connections that are open to the server")
            .with_callback(move |gauge| gauge.observe(observed.connections() as u64, &[]))
            .build();
        let observed = self.clone();
        meter
            .u64_observable_counter("discovery.server.connections.refused")
            .with_description("Connections that were closed, by the limit that they were beyond")
            .with_callback(move |counter| {
                for refusal in Refusal::ALL {
                    let reason = KeyValue::new("reason", refusal.name());
                    counter.observe(observed.0.refused[refusal as usize].count(), &[reason]);
                }
            })
            .build();
    }

    /// A place for a peer that connects from there, when there is one; to be kept for as long as it is connected.
    pub(crate) fn admit(&self, peer: IpAddr) -> Option<Admitted> {
        let address = network(peer);
        if let Err(refusal) = self.enter(address) {
            self.refuse(refusal, peer, refusal.limit());
            return None;
        }
        Some(Admitted {
            admission: self.clone(),
            peer,
            address,
        })
    }

    fn enter(&self, address: IpAddr) -> Result<(), Refusal> {
        let mut connected = self.connected();
        if connected.all >= self.0.most {
            return Err(Refusal::Connections);
        }
        let of_address = connected.by_address.entry(address).or_default();
        if *of_address >= self.0.most_of_an_address {
            return Err(Refusal::ConnectionsPerAddress);
        }
        *of_address += 1;
        connected.all += 1;
        Ok(())
    }

    fn leave(&self, address: IpAddr) {
        let mut connected = self.connected();
        connected.all -= 1;
        if let Some(of_address) = connected.by_address.get_mut(&address) {
            *of_address -= 1;
            if *of_address == 0 {
                connected.by_address.remove(&address);
            }
        }
    }

    fn connections(&self) -> usize {
        self.connected().all
    }

    fn connected(&self) -> std::sync::MutexGuard<'_, Connected> {
        let connected = self.0.connected.lock();
        connected.unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, refusal: Refusal, peer: IpAddr, why: impl fmt::Display) {
        self.0.refused[refusal as usize].another(peer, "a connection is closed", why);
    }
}

/// A connection's place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: Admission,
    peer: IpAddr,
    address: IpAddr,
}

impl Admitted {
    /// It has not begun to speak in time.
    pub(super) fn too_slow(&self) {
        self.beyond(Refusal::Handshake);
    }

    /// How many frames may come on it that ask for nothing.
    pub(super) fn control_frames(&self) -> u32 {
        self.admission.0.control_frames
    }

    /// More of them have come.
    pub(super) fn too_much(&self) {
        self.beyond(Refusal::ControlFrames);
    }

    fn beyond(&self, refusal: Refusal) {
        self.admission.refuse(refusal, self.peer, refusal.limit());
    }

    /// There is no TLS with it.
    pub(super) fn insecure(&self, why: &str) {
        let why = format_args!("no TLS with it: {why}");
        self.admission.refuse(Refusal::Tls, self.peer, why);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.leave(self.address);
    }
}

/// What counts as one address: a host has all of an IPv6 network of 64 bits to choose from.
pub(super) fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & (u128::MAX << 64)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Admission, Admitted, network};
    use crate::{Telemetry, config::LimitsConfig};

    fn admission(connections: u32, per_address: u32) -> (Admission, Telemetry) {
        let number = |n: u32| n.try_into().expect("not zero");
        let limits = LimitsConfig {
            connections: number(connections),
            connections_per_address: number(per_address),
            ..LimitsConfig::default()
        };
        let telemetry = Telemetry::metrics_only().expect("metrics");
        (Admission::new(&limits, &telemetry.meter("test")), telemetry)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn admit(admission: &Admission, peer: &str) -> Option<Admitted> {
        admission.admit(address(peer))
    }

    #[tokio::test]
    async fn one_address_leaves_room_for_others_and_all_together_have_an_end() {
        let (admission, telemetry) = admission(3, 2);
        let first = admit(&admission, "10.0.0.1").expect("a place");
        let _second = admit(&admission, "10.0.0.1").expect("a place");
        assert!(admit(&admission, "10.0.0.1").is_none());
        let _third = admit(&admission, "10.0.0.2").expect("a place");
        assert!(admit(&admission, "10.0.0.3").is_none());
        let page = telemetry.render().expect("metrics");
        let has = |line: &str| page.lines().any(|shown| shown.starts_with(line));
        let refused = "discovery_server_connections_refused_total";
        for reason in ["connections", "connections_per_address"] {
            let line = page.lines().find(|line| {
                line.starts_with(refused) && line.contains(&format!("reason=\"{reason}\""))
            });
            assert!(line.is_some_and(|line| line.ends_with(" 1")), "{page}");
        }
        assert!(has("discovery_server_connections{"), "{page}");
        drop(first);
        assert!(admit(&admission, "10.0.0.1").is_some());
    }

    #[tokio::test]
    async fn nothing_is_remembered_of_who_has_left() {
        let (admission, _telemetry) = admission(2, 2);
        for number in 0..100 {
            drop(admit(&admission, &format!("10.0.0.{number}")).expect("a place"));
        }
        assert_eq!(admission.connections(), 0);
        assert!(admission.connected().by_address.is_empty());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_ipv4_in_ipv6_is_ipv4() {
        assert_eq!(
            network(address("2001:db8::1")),
            network(address("2001:db8::ffff:1"))
        );
        assert_ne!(
            network(address("2001:db8::1")),
            network(address("2001:db8:0:1::1"))
        );
        assert_eq!(network(address("::ffff:10.0.0.1")), address("10.0.0.1"));
    }
}
