//! The server's side of mutual TLS: a handshake in which the caller proves who it is.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use registry::tls::{Credentials, Derived, SpiffeId};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring::default_provider,
        server::{NoServerSessionStorage, WebPkiClientVerifier},
        sign::SingleCertAndKey,
    },
    server::TlsStream,
};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::Caller;
use crate::config::Tls;

/// HTTP/2 in a TLS handshake (RFC 9113, section 3.2). gRPC asks for it.
const ALPN: &[u8] = b"h2";
/// How long a peer that is refused may take to hear of it.
const HEARD_OUT: Duration = Duration::from_secs(1);

/// Secures connections by what the files hold when each is made. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Acceptor {
    in_force: Arc<Derived<Arc<ServerConfig>>>,
}

impl Acceptor {
    pub(super) fn new(tls: &Tls) -> Self {
        Self {
            in_force: Arc::new(Derived::following(Arc::clone(&tls.files), server_config)),
        }
    }

    /// A connection whose peer has shown a certificate that one of the authorities vouches for.
    ///
    /// # Errors
    /// In words that say whose fault it is; none of them is ours once the server has started.
    pub(super) async fn accept(&self, socket: TcpStream) -> Result<Secured, String> {
        let tcp = socket.connect_info();
        let config = self.in_force.in_force().await?;
        let accepted = TlsAcceptor::from(config).accept(socket).into_fallible();
        let stream = match accepted.await {
            Ok(stream) => stream,
            Err((error, socket)) => {
                hear_out(socket).await;
                return Err(error.to_string());
            }
        };
        let (_, session) = stream.get_ref();
        if session.alpn_protocol() != Some(ALPN) {
            return Err("it does not speak HTTP/2 over TLS (ALPN h2)".into());
        }
        let shown = session.peer_certificates().and_then(<[_]>::first);
        let shown = shown.ok_or("it has shown no certificate")?;
        let caller = Some(Caller(SpiffeId::of(shown).map(Arc::new)));
        let peer = Peer { tcp, caller };
        Ok(Secured { stream, peer })
    }
}

/// Takes what the peer still says before the socket is closed: otherwise the kernel resets the connection, and the peer may
/// never read why it was refused.
async fn hear_out(mut socket: TcpStream) {
    let said = async {
        socket.shutdown().await?;
        while socket.read(&mut [0; 1024]).await? > 0 {}
        io::Result::Ok(())
    };
    // However that ends, there is nobody left to tell.
    let _ = timeout(HEARD_OUT, said).await;
}

/// No session is resumed: a certificate that has expired meanwhile would do.
fn server_config(credentials: &Credentials) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(default_provider());
    let authorities = Arc::clone(&credentials.authorities);
    let callers = WebPkiClientVerifier::builder_with_provider(authorities, Arc::clone(&provider))
        .build()
        .map_err(|error| error.to_string())?;
    let own = credentials.identity.as_ref();
    let own = own.ok_or("a server needs a certificate of its own")?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(callers)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(own))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) tcp: TcpConnectInfo,
    /// `None` in clear.
    pub(super) caller: Option<Caller>,
}

impl From<TcpConnectInfo> for Peer {
    fn from(tcp: TcpConnectInfo) -> Self {
        Self { tcp, caller: None }
    }
}

/// A connection whose peer is known.
#[derive(Debug)]
pub(super) struct Secured {
    stream: TlsStream<TcpStream>,
    peer: Peer,
}

impl Connected for Secured {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
