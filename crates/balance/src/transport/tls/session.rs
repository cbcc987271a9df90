//! From the configuration to a TLS connection.

use std::{fmt, sync::Arc};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

use super::{ClientTls, Identity, InvalidTls, TlsFailed};

/// HTTP/2 in a TLS handshake (RFC 9113, section 3.2). gRPC asks for it.
const ALPN: &[u8] = b"h2";

/// TLS towards one name. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    pub(super) fn new(tls: &ClientTls, name: &str) -> Result<Self, InvalidTls> {
        let invalid = |_| InvalidTls::ServerName(name.to_owned());
        let server_name = ServerName::try_from(name.to_owned()).map_err(invalid)?;
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(InvalidTls::Setup)?
            .with_root_certificates(match &tls.authorities {
                Some(pem) => authorities(pem)?,
                None => system_authorities()?,
            });
        let mut config = match &tls.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (certificates, key) = parsed(identity)?;
                builder
                    .with_client_auth_cert(certificates, key)
                    .map_err(|error| InvalidTls::Identity(error.to_string()))?
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self {
            config: Arc::new(config),
            name: server_name,
        })
    }

    pub(in crate::transport) async fn handshake<T>(
        &self,
        socket: T,
    ) -> Result<TlsStream<T>, TlsFailed>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = TlsConnector::from(Arc::clone(&self.config))
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
        f.debug_tuple("Tls").field(&self.name.to_str()).finish()
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err("there is no certificate".into()),
        Ok(all) => Ok(all),
        Err(error) => Err(error.to_string()),
    }
}

fn authorities(pem: &[u8]) -> Result<RootCertStore, InvalidTls> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem).map_err(InvalidTls::Authorities)? {
        roots
            .add(certificate)
            .map_err(|error| InvalidTls::Authorities(error.to_string()))?;
    }
    Ok(roots)
}

/// Those that can be used: every system has some odd ones.
fn system_authorities() -> Result<RootCertStore, InvalidTls> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first();
        let why = why.map(|error| format!(": {error}"));
        return Err(InvalidTls::NoSystemAuthorities(why.unwrap_or_default()));
    }
    Ok(roots)
}

type Parsed = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn parsed(identity: &Identity) -> Result<Parsed, InvalidTls> {
    let chain = certificates(&identity.certificates).map_err(InvalidTls::Identity)?;
    // What the parser says of a key is not repeated: it might quote it.
    let key = PrivateKeyDer::from_pem_slice(&identity.key)
        .map_err(|_| InvalidTls::Identity("there is no private key".into()))?;
    Ok((chain, key))
}
