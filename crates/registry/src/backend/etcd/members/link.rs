//! A channel to one member, which connects when it is first used.
//!
//! etcd-client's own way of connecting balances over all endpoints, has no retry and does not notice a dead one; so the
//! channel is made here.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Uri, Version};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::{
    dial::Dial,
    error::EtcdError,
    tls::{Tls, TlsFailure},
};
use crate::Address;

/// etcd closes connections that ping more often than every 5 s, or with no stream open.
const PING_EVERY: Duration = Duration::from_secs(6);
const PING_ANSWERED: Duration = Duration::from_secs(3);
/// One watch whose reader is slow must not hold up the keep-alives beside it.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
const STREAM_WINDOW: u32 = 1024 * 1024;

/// A channel to a member.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) channel: Channel,
    /// Why the member ended the connection, where that was for TLS.
    ended: Arc<OnceLock<TlsFailure>>,
    is_secured: bool,
    answered: Arc<AtomicBool>,
}

impl Link {
    pub(super) fn new(member: &Address, tls: Option<&Arc<Tls>>) -> Self {
        let dial = Dial::new(member, tls, Version::HTTP_2);
        let ended = Arc::clone(&dial.ended);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let origin = Uri::try_from(format!("{scheme}://{member}"));
        // The connector secures what it makes: the URI that it is given is that of a host and a port.
        let channel = Endpoint::from_shared(format!("http://{member}"))
            .expect("an address is an authority")
            .origin(origin.expect("an address is an authority"))
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_ANSWERED)
            .keep_alive_while_idle(false)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_stream_window_size(STREAM_WINDOW)
            .connect_with_connector_lazy(service_fn(move |_: Uri| dial.clone().connect()));
        Self {
            channel,
            ended,
            is_secured: tls.is_some(),
            answered: Arc::default(),
        }
    }

    /// Why the member ended the connection, where there is more to say than that it broke.
    pub(super) fn ended(&self) -> Option<EtcdError> {
        if !self.is_secured && !self.has_answered() {
            let text = "the member ends the connection without an answer, as one does that speaks TLS only (etcds://)";
            return Some(EtcdError::Unreachable(text.into()));
        }
        self.ended.get().cloned().map(EtcdError::Tls)
    }

    /// Notes that the member has answered.
    pub(super) fn note_answer(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// Whether the member has ever answered.
    pub(super) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }
}
