//! TLS towards the members: its files, which are read again for each connection, and the handshake.

mod failure;
mod noting;

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::Version;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, ServerName},
        sign::SingleCertAndKey,
    },
};

pub use self::failure::TlsFailure;
pub(super) use self::noting::Noting;
use super::dial::CONNECT;
use crate::{
    Address,
    backend::etcd::EtcdTls,
    tls::{Credentials, Derived, Followed, Validity},
};

/// HTTP/2 in a TLS handshake (RFC 9113, section 3.2).
const ALPN: &[u8] = b"h2";
/// What the network has of [`CONNECT`], however long a disk takes to read files.
const OF_THE_NETWORK: Duration = Duration::from_secs(1);
/// How long files are waited for where something is in force.
const PATIENCE: Duration = CONNECT.saturating_sub(OF_THE_NETWORK);

/// TLS as its files have it: what is in force is the newest of their contents that could be used.
pub(in super::super) struct Tls {
    files: Arc<Followed>,
    in_force: Derived<InForce>,
    server_name: Option<String>,
}

#[derive(Clone)]
struct InForce {
    /// For requests, which are HTTP/2.
    config: Arc<ClientConfig>,
    /// For pages: HTTP/1.1, which is what is spoken where no protocol is asked for.
    of_pages: Arc<ClientConfig>,
    /// The certificate that we show.
    ours: Option<CertificateDer<'static>>,
}

impl Tls {
    pub(super) fn new(tls: EtcdTls) -> Self {
        let files = tls.files.follow();
        Self {
            in_force: Derived::following(Arc::clone(&files), InForce::of),
            files,
            server_name: tls.server_name,
        }
    }

    /// How often changed files could not be used.
    pub(in super::super) fn refused(&self) -> u64 {
        self.files.refused()
    }

    /// From when to when the certificate that we show is valid.
    pub(in super::super) fn certificate(&self) -> Option<Validity> {
        self.files.validity()
    }

    /// Looks every minute, for ever.
    pub(super) async fn look_on(self: Arc<Self>) {
        Arc::clone(&self.files).look_on().await;
    }

    /// Secures a connection to `member`, to speak that version of HTTP. Why the member ends it later, if that is for TLS, is noted in `ended`: with TLS
    /// 1.3 our certificate is looked at when the handshake is over for us.
    pub(super) async fn handshake<T>(
        self: &Arc<Self>,
        socket: T,
        member: &Address,
        version: Version,
        ended: Arc<OnceLock<TlsFailure>>,
    ) -> Result<Noting<T>, TlsFailure>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let in_force = self.in_force.in_force_within(PATIENCE).await;
        let InForce {
            config,
            of_pages,
            ours,
        } = in_force.map_err(TlsFailure::Unusable)?;
        let (config, protocol) = match version {
            Version::HTTP_2 => (config, Some(ALPN)),
            _ => (of_pages, None),
        };
        let name = server_name(self.server_name.as_deref(), member)?;
        let connected = TlsConnector::from(config).connect(name.clone(), socket);
        let stream = connected
            .await
            .map_err(|error| TlsFailure::of(&error, &name, ours.as_ref()))?;
        if stream.get_ref().1.alpn_protocol() != protocol {
            return Err(TlsFailure::NoHttp2);
        }
        Ok(Noting::new(stream, name, ours, ended))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.files).finish()
    }
}

impl InForce {
    fn of(credentials: &Credentials) -> Result<Self, String> {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(Arc::clone(&credentials.authorities));
        let mut config = match &credentials.identity {
            Some(identity) => builder
                .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(identity)))),
            None => builder.with_no_client_auth(),
        };
        let of_pages = Arc::new(config.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self {
            config: Arc::new(config),
            of_pages,
            ours: credentials.certificate().cloned(),
        })
    }
}

fn server_name(
    configured: Option<&str>,
    member: &Address,
) -> Result<ServerName<'static>, TlsFailure> {
    let name = configured.or(member.host()).unwrap_or_default();
    ServerName::try_from(name.to_owned()).map_err(|_| {
        let text = format!("{name:?} is no name that a certificate could be for");
        TlsFailure::Unusable(text)
    })
}
