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

use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::{ServiceExt as _, service_fn};

use super::{
    error::EtcdError,
    tls::{Tls, TlsFailure},
};
use crate::{Address, one_line};

/// The longest that connecting takes, TLS included.
const CONNECT: Duration = Duration::from_secs(2);
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

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

impl Link {
    pub(super) fn new(member: &Address, tls: Option<&Arc<Tls>>) -> Self {
        let ended = Arc::default();
        let dial = Dial {
            tcp: tcp(),
            member: member.clone(),
            tls: tls.cloned(),
            ended: Arc::clone(&ended),
        };
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
            .connect_with_connector_lazy(service_fn(move |uri| dial.clone().connect(uri)));
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

fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp
}

/// How a member is connected.
#[derive(Clone)]
struct Dial {
    tcp: HttpConnector,
    member: Address,
    tls: Option<Arc<Tls>>,
    ended: Arc<OnceLock<TlsFailure>>,
}

impl Dial {
    async fn connect(self, uri: Uri) -> Result<TokioIo<Box<dyn Socket>>, EtcdError> {
        let connected = timeout(CONNECT, self.connect_at_last(uri)).await;
        let late = || EtcdError::Unreachable(format!("it took longer than {CONNECT:?}"));
        connected.unwrap_or_else(|_| Err(late())).map(TokioIo::new)
    }

    async fn connect_at_last(self, uri: Uri) -> Result<Box<dyn Socket>, EtcdError> {
        let socket = self.tcp.oneshot(uri).await;
        let socket = socket
            .map_err(|error| EtcdError::Unreachable(one_line(&error)))?
            .into_inner();
        Ok(match &self.tls {
            None => Box::new(socket),
            Some(tls) => Box::new(tls.handshake(socket, &self.member, self.ended).await?),
        })
    }
}
