//! What a peer can make a server do, at most.

use std::{num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};

use super::text;

const KIB: u32 = 1024;

/// `[server.limits]`: what peers can make this server do, at most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LimitsConfig {
    /// The longest message that is taken, decompressed, in bytes.
    pub message_size: NonZeroU32,
    /// What the messages of all calls under way may take, in bytes; those of up to 16 KiB are not counted.
    pub message_memory: NonZeroU32,
    /// What those from one IPv4 address may take, or from one IPv6 network of 64 bits, in bytes.
    pub message_memory_per_address: NonZeroU32,
    /// The longest header list that is taken, as HTTP/2 counts it, in bytes.
    pub header_list_size: NonZeroU32,
    /// Calls under way on one connection; a caller with more waits, or opens another.
    pub concurrent_streams: NonZeroU32,
    /// Calls on one connection that their caller may have given up before they were looked at.
    pub pending_resets: NonZeroU32,
    /// Calls on one connection that may end by a mistake of the caller's against HTTP/2.
    pub error_resets: NonZeroU32,
    /// Frames on one connection, in ten seconds, that ask for nothing and are no answer to ours. The seconds are counted from a frame on,
    /// and then from another.
    pub control_frames: NonZeroU32,
    /// Connections in all.
    pub connections: NonZeroU32,
    /// Connections from one IPv4 address, or from one IPv6 network of 64 bits.
    pub connections_per_address: NonZeroU32,
    /// How long a peer may take to begin to speak HTTP/2.
    #[serde(with = "text::time_limit")]
    pub handshake_timeout: Duration,
    /// A peer that is silent for this long is asked whether it is still there.
    #[serde(with = "text::time_limit")]
    pub keep_alive_interval: Duration,
    /// How long it may take to answer that.
    #[serde(with = "text::time_limit")]
    pub keep_alive_timeout: Duration,
    /// How old a connection gets before its peer is told to open another; any age when empty.
    #[serde(with = "text::time_limit::optional")]
    pub connection_age: Option<Duration>,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let number = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self {
            message_size: number(4 * KIB * KIB),
            message_memory: number(256 * KIB * KIB),
            message_memory_per_address: number(64 * KIB * KIB),
            header_list_size: number(16 * KIB),
            concurrent_streams: number(1024),
            pending_resets: number(256),
            error_resets: number(1024),
            control_frames: number(1_000),
            connections: number(10_000),
            connections_per_address: number(1_000),
            handshake_timeout: Duration::from_secs(10),
            keep_alive_interval: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(10),
            connection_age: None,
        }
    }
}

/// For what takes sizes and counts of memory.
pub(crate) fn as_usize(number: NonZeroU32) -> usize {
    usize::try_from(number.get()).unwrap_or(usize::MAX)
}
