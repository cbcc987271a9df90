//! From an endpoint's addresses to a connection that has proved to be alive.

mod attempt;
mod failed;
mod options;
mod place;
mod race;

use registry::Address;

pub(crate) use failed::ConnectFailed;
pub(crate) use options::ConnectOptions;
use race::Race;

use super::connection::Connection;

/// Connects to the first of `addresses` whose peer acknowledges a PING, by happy eyeballs (RFC 8305): one try after the
/// other begins, in turns between the address families, without waiting for the end of those before. Each gets the
/// options' patience. Dropping the future leaves nothing behind.
pub(crate) async fn connect(
    addresses: &[Address],
    options: &ConnectOptions,
) -> Result<Connection, ConnectFailed> {
    Race::new(addresses, options).run().await
}

#[cfg(test)]
mod tests;
