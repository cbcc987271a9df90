//! How a member is connected: by TCP, and by TLS where it is secured.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{Uri, Version};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tower::ServiceExt as _;

use super::{
    error::EtcdError,
    tls::{Tls, TlsFailure},
};
use crate::{Address, one_line};

/// The longest that connecting takes, TLS included.
pub(super) const CONNECT: Duration = Duration::from_secs(2);

pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// How a member is connected.
#[derive(Clone)]
pub(super) struct Dial {
    tcp: HttpConnector,
    member: Address,
    tls: Option<Arc<Tls>>,
    version: Version,
    /// Why the member ended the connection, where that was for TLS.
    pub(super) ended: Arc<OnceLock<TlsFailure>>,
}

impl Dial {
    /// To speak that version of HTTP with `member`.
    pub(super) fn new(member: &Address, tls: Option<&Arc<Tls>>, version: Version) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        Self {
            tcp,
            member: member.clone(),
            tls: tls.cloned(),
            version,
            ended: Arc::default(),
        }
    }

    /// A connection, within two seconds. Cancellation safe.
    pub(super) async fn connect(self) -> Result<TokioIo<Box<dyn Socket>>, EtcdError> {
        let connected = timeout(CONNECT, self.connect_at_last()).await;
        let late = || EtcdError::Unreachable(format!("it took longer than {CONNECT:?}"));
        connected.unwrap_or_else(|_| Err(late())).map(TokioIo::new)
    }

    async fn connect_at_last(self) -> Result<Box<dyn Socket>, EtcdError> {
        // What is made is secured here: the URI is that of a host and a port.
        let uri = Uri::try_from(format!("http://{}", self.member));
        let socket = self.tcp.oneshot(uri.expect("an address is an authority"));
        let socket = socket
            .await
            .map_err(|error| EtcdError::Unreachable(one_line(&error)))?
            .into_inner();
        Ok(match &self.tls {
            None => Box::new(socket),
            Some(tls) => {
                let secured = tls.handshake(socket, &self.member, self.version, self.ended);
                Box::new(secured.await?)
            }
        })
    }
}
