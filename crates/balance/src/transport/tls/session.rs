//! From the configuration to a TLS connection.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use registry::{
    ServiceName,
    tls::{Credentials, Derived, InvalidCredentials, SpiffeId},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, ClientConfig, client::Resumption, crypto::ring::default_provider,
        pki_types::ServerName, sign::SingleCertAndKey,
    },
};
use tokio_util::task::AbortOnDropHandle;

use super::{ClientTls, InvalidTls, TlsFailed, peer::PeerVerifier};

/// HTTP/2 in a TLS handshake (RFC 9113, section 3.2). gRPC asks for it.
const ALPN: &[u8] = b"h2";

/// TLS towards one name. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tls {
    config: Arc<Derived<Arc<ClientConfig>>>,
    name: ServerName<'static>,
    /// Whose certificates are taken, whatever their names.
    peer: Option<SpiffeId>,
    /// Ends with the last that is secured so.
    _looking: Option<Arc<AbortOnDropHandle<()>>>,
}

impl Tls {
    /// Reads what is there to read, once.
    pub(super) fn new(
        tls: &ClientTls,
        service: Option<&ServiceName>,
        name: &str,
    ) -> Result<Self, InvalidTls> {
        let peer = peer(tls, service)?;
        let name = match (ServerName::try_from(name.to_owned()), &peer) {
            (Ok(name), _) => name,
            // A service may have a name that no host has. It is then told none: an address is never sent.
            (Err(_), Some(_)) => ServerName::from(IpAddr::from(Ipv4Addr::UNSPECIFIED)),
            (Err(_), None) => return Err(InvalidTls::ServerName(name.to_owned())),
        };
        let verified = peer.clone();
        let make = move |credentials: &Credentials| {
            let config = config(credentials, verified.as_ref());
            config.map_err(|error| error.to_string())
        };
        let (config, looking) = if let Some(files) = &tls.files {
            let config = Derived::following(Arc::clone(files), make);
            config.at_once().map_err(InvalidTls::Files)?;
            let looking = tokio::spawn(Arc::clone(files).look_on());
            (config, Some(Arc::new(AbortOnDropHandle::new(looking))))
        } else {
            let credentials = Credentials::from_pem(&tls.pem).map_err(invalid)?;
            config(&credentials, peer.as_ref()).map_err(InvalidTls::Setup)?;
            (Derived::of(credentials, make), None)
        };
        Ok(Self {
            config: Arc::new(config),
            name,
            peer,
            _looking: looking,
        })
    }

    pub(in crate::transport) async fn handshake<T>(
        &self,
        socket: T,
    ) -> Result<TlsStream<T>, TlsFailed>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.config.in_force().await;
        let stream = TlsConnector::from(config.map_err(TlsFailed::Unusable)?)
            .connect(self.name.clone(), socket)
            .await
            .map_err(|error| TlsFailed::of(error, &self.name))?;
        match stream.get_ref().1.alpn_protocol() {
            Some(ALPN) => Ok(stream),
            _ => Err(TlsFailed::NoHttp2),
        }
    }
}

/// Without the key.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("name", &self.name.to_str())
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// Who is called, where that is said by a URI.
fn peer(tls: &ClientTls, service: Option<&ServiceName>) -> Result<Option<SpiffeId>, InvalidTls> {
    let Some(domain) = &tls.domain else {
        return Ok(None);
    };
    let named = tls.server_name.as_deref();
    let named = named
        .map(|name| ServiceName::new(name).map_err(|_| InvalidTls::ServerName(name.to_owned())));
    let named = named.transpose()?;
    let service = named.as_ref().or(service);
    let service = service.ok_or_else(|| InvalidTls::NoService {
        domain: domain.clone(),
    })?;
    Ok(Some(domain.identity(service)))
}

fn config(
    credentials: &Credentials,
    peer: Option<&SpiffeId>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(default_provider());
    let authorities = Arc::clone(&credentials.authorities);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = match peer {
        None => builder.with_root_certificates(authorities),
        Some(peer) => {
            let verifier = PeerVerifier::new(peer.clone(), authorities, provider);
            let builder = builder.dangerous();
            builder.with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    let mut config = match &credentials.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let shown = SingleCertAndKey::from(Arc::clone(identity));
            builder.with_client_cert_resolver(Arc::new(shown))
        }
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A session that is resumed shows no certificate: one that has expired meanwhile would do.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn invalid(invalid: InvalidCredentials) -> InvalidTls {
    match invalid {
        InvalidCredentials::Authorities(problem) => InvalidTls::Authorities(problem),
        InvalidCredentials::NoSystemAuthorities(why) => InvalidTls::NoSystemAuthorities(why),
        of_ours => InvalidTls::Identity(of_ours.to_string()),
    }
}
