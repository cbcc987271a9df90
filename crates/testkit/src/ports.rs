//! Ports that nobody listens on.

use std::{
    collections::HashSet,
    net::TcpListener,
    sync::{LazyLock, Mutex, PoisonError},
};

use anyhow::{Result, bail};

/// Below the range from which kernels take the ports of outgoing connections: a port of a process that is down for a
/// moment is not taken by somebody's connection.
const RANGE: std::ops::Range<u16> = 12_000..32_000;

static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A port on 127.0.0.1 that nobody listens on, and that this process has not given out before.
///
/// Another process may still take it first: whoever listens on it must be ready to try another.
pub fn free_port() -> Result<u16> {
    for _ in 0..1_000 {
        let port = fastrand::u16(RANGE);
        if TcpListener::bind(("127.0.0.1", port)).is_ok()
            && GIVEN
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(port)
        {
            return Ok(port);
        }
    }
    bail!(
        "no free port found on 127.0.0.1 from {} to {}",
        RANGE.start,
        RANGE.end - 1
    )
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, net::TcpListener};

    use super::free_port;

    #[test]
    fn no_port_is_given_twice_and_each_can_be_listened_on() {
        let ports: Vec<_> = (0..50).map(|_| free_port().expect("a port")).collect();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), ports.len());
        TcpListener::bind(("127.0.0.1", ports[0])).expect("it is free");
    }
}
