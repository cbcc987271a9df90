//! Ports that nobody listens on, and that nobody else is given.

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
};

use anyhow::{Result, bail};
use socket2::{Domain, Socket, Type};

/// Below the range from which Linux takes the ports of outgoing connections.
const RANGE: std::ops::Range<u16> = 12_000..32_000;

/// A port on 127.0.0.1 that nobody listens on, kept for its owner until it is dropped: whoever is told its number can
/// listen on it, again and again, and meanwhile no outgoing connection and no other test is given it.
///
/// It is kept by a socket that is bound to it and does not listen, so that who connects to it is refused.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _kept: Socket,
}

impl Port {
    /// One that is free.
    pub fn free() -> Result<Self> {
        let mut row = Self::free_row(1)?;
        Ok(row.remove(0))
    }

    /// So many in a row that are free.
    pub(crate) fn free_row(width: u16) -> Result<Vec<Self>> {
        for _ in 0..1_000 {
            let first = fastrand::u16(RANGE.start..RANGE.end - width);
            if let Some(row) = (first..first + width).map(Self::keep).collect() {
                return Ok(row);
            }
        }
        bail!(
            "no {width} free ports in a row found on 127.0.0.1 from {} to {}",
            RANGE.start,
            RANGE.end - 1
        )
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1` and its number.
    pub fn address(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.number)
    }

    fn keep(number: u16) -> Option<Self> {
        let socket = bind(number).ok()?;
        Some(Self {
            number,
            _kept: socket,
        })
    }
}

/// Its number.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(f)
    }
}

/// Bound while the port is nobody's, and open from then on to those who share it, as servers' own sockets do.
fn bind(number: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, number)).into())?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        io::ErrorKind,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let ports: Vec<_> = (0..50).map(|_| Port::free().expect("a port")).collect();
        let numbers: HashSet<_> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), ports.len());
        assert!(
            numbers
                .into_iter()
                .all(|number| Port::keep(number).is_none())
        );
    }

    #[test]
    fn its_owner_listens_on_it_again_and_again_and_between_that_connections_are_refused() {
        let port = Port::free().expect("a port");
        let address = (Ipv4Addr::LOCALHOST, port.number());
        for _ in 0..3 {
            let refused = TcpStream::connect(address).expect_err("nobody listens");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            let listener = TcpListener::bind(address).expect("it is kept for us");
            let _here = TcpStream::connect(address).expect("we listen");
            let _there = listener.accept().expect("a connection");
        }
    }

    #[test]
    fn a_row_is_one() {
        let row = Port::free_row(3).expect("ports");
        let first = row[0].number();
        assert!(row.iter().map(Port::number).eq(first..first + 3));
    }

    #[test]
    fn one_that_is_dropped_is_free() {
        let number = Port::free().expect("a port").number();
        assert!(Port::keep(number).is_some());
    }
}
