//! The servers that keep a registry, as each of them says itself.

use std::time::Duration;

use crate::Address;

/// A server that keeps a registry: a member of an etcd cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// Where it answers.
    pub address: Address,
    /// How it is, or why it cannot be told.
    pub status: Result<MemberStatus, String>,
    /// How far its clock is from ours, at least, as it tells whole seconds; or why that cannot be told.
    pub clock: Result<Duration, String>,
}

/// How a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberStatus {
    /// How long its answer took, once there was a connection.
    pub latency: Duration,
    /// Its version.
    pub version: String,
    /// Whether it leads the others.
    pub is_leader: bool,
    /// Whether it knows who leads; one that is cut off from most of the others does not.
    pub has_leader: bool,
    /// How large its database is, in bytes.
    pub bytes: u64,
    /// What it says is wrong with itself, such as `NOSPACE`.
    pub errors: Vec<String>,
}

impl Member {
    pub(crate) fn new(
        address: Address,
        status: Result<MemberStatus, String>,
        clock: Result<Duration, String>,
    ) -> Self {
        Self {
            address,
            status,
            clock,
        }
    }
}
