//! TLS and mutual TLS towards the servers.

mod failed;
mod peer;
mod session;

use std::{fmt, net::IpAddr, sync::Arc};

use registry::{
    ServiceName,
    tls::{Followed, Pem, TrustDomain},
};
use tokio_rustls::rustls;

pub(super) use failed::TlsFailed;
pub(crate) use session::Tls;

/// TLS towards every server of a channel.
///
/// A server's certificate is verified for the name that the channel's target says: the service's name, with `.` for `/`,
/// or the host of the first address that a `static:///` target lists without saying `?service=NAME`, which is to be a name
/// then: an IP address is refused. What a registry says never counts: who can write
/// there could name itself. By default the system's certificate authorities are trusted.
///
/// With a [trust domain](Self::with_trust_domain) it is verified for the service's identity instead, a URI
/// (`spiffe://DOMAIN/SERVICE`), whatever host the server runs on.
///
/// ```
/// use balance::ClientTls;
/// let tls = ClientTls::new().with_server_name("greeter.internal");
/// assert!(format!("{tls:?}").contains("greeter.internal"));
/// ```
#[derive(Clone, Default)]
pub struct ClientTls {
    pem: Pem,
    files: Option<Arc<Followed>>,
    server_name: Option<String>,
    domain: Option<TrustDomain>,
}

/// Why TLS cannot be used as it is configured. No text of it holds any of the key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTls {
    /// The certificate authorities are none.
    #[error("the certificate authorities are not usable: {0}; give certificates in PEM")]
    Authorities(String),
    /// The system has no certificate authorities.
    #[error("the system has no certificate authorities{0}; give some in PEM")]
    NoSystemAuthorities(String),
    /// The client's certificate or its key is none, or one is not the other's.
    #[error("the client's certificate and key are not usable: {0}; give both in PEM")]
    Identity(String),
    /// The name can be no server's.
    #[error("{0:?} is no name that a server's certificate could be verified for; set one")]
    ServerName(String),
    /// The files cannot be used.
    #[error("TLS cannot be used: {0}")]
    Files(String),
    /// The target names no service, and so nobody whose identity could be verified.
    #[error(
        "the target names no service whose identity in {domain} could be verified; write static:///HOST:PORT?service=NAME, or set the server's name"
    )]
    NoService {
        /// The trust domain.
        domain: TrustDomain,
    },
    /// The target lists an IP address, of which nobody is vouched for to be a service.
    #[error(
        "{0} is an IP address, and whoever writes a list could name any; write static:///HOST:PORT?service=NAME, or set the server's name"
    )]
    IpAddress(IpAddr),
    /// The library refuses.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

impl ClientTls {
    /// TLS that trusts the system's certificate authorities.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the certificate authorities in `pem`, and no others.
    pub fn with_authorities(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.pem.authorities = Some(pem.into());
        self
    }

    /// Shows servers that ask for it the certificate in `certificates` (followed by those that vouch for it, if any),
    /// which `key` belongs to; both in PEM.
    pub fn with_identity(
        mut self,
        certificates: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        self.pem.identity = Some((certificates.into(), key.into()));
        self
    }

    /// Trusts and shows what these files hold, instead of what else was given. They are looked at for each connection and once
    /// a minute: new ones are in force from the next connection on, whom to trust whatever our own certificate is. What cannot be
    /// used leaves what was in force before; it is logged once and counted, by `files`. Where nothing is in force a channel that
    /// is built reads them once; who is to wait for the end of a renewal awaits [`Followed::in_force`] before.
    pub fn with_files(mut self, files: Arc<Followed>) -> Self {
        self.files = Some(files);
        self
    }

    /// The [files](Self::with_files) that are followed, if any are.
    pub fn files(&self) -> Option<&Arc<Followed>> {
        self.files.as_ref()
    }

    /// Verifies that a server's certificate is for `spiffe://DOMAIN/SERVICE`, the service being the one that the target names
    /// or else the [server's name](Self::with_server_name); what hosts it is for counts for nothing then. A connection to
    /// another service fails with both identities in its text.
    pub fn with_trust_domain(mut self, domain: TrustDomain) -> Self {
        self.domain = Some(domain);
        self
    }

    /// Verifies servers' certificates for `name` instead.
    pub fn with_server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Ready for use towards servers that are `service`, where the target names one, and are called `host` unless another
    /// name is set.
    pub(crate) fn towards(
        &self,
        service: Option<&ServiceName>,
        host: &str,
    ) -> Result<Tls, InvalidTls> {
        let named = self.server_name.as_deref();
        match host.parse() {
            Ok(address) if named.is_none() && self.domain.is_none() => {
                Err(InvalidTls::IpAddress(address))
            }
            _ => Tls::new(self, service, named.unwrap_or(host)),
        }
    }
}

/// Without the key.
impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("pem", &self.pem)
            .field("files", &self.files)
            .field("server_name", &self.server_name)
            .field("domain", &self.domain)
            .finish()
    }
}
