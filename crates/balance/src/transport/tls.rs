//! TLS and mutual TLS towards the servers.

mod failed;
mod session;

use std::fmt;

use tokio_rustls::rustls;

pub(super) use failed::TlsFailed;
pub(crate) use session::Tls;

/// TLS towards every server of a channel.
///
/// A server's certificate is verified for the name that the channel's target says: the service's name, with `.` for `/`,
/// or the host of the first address that a `static:///` target lists. What a registry says never counts: who can write
/// there could name itself. By default the system's certificate authorities are trusted.
///
/// ```
/// use balance::ClientTls;
/// let tls = ClientTls::new().with_server_name("greeter.internal");
/// assert!(format!("{tls:?}").contains("greeter.internal"));
/// ```
#[derive(Clone, Default)]
pub struct ClientTls {
    authorities: Option<Vec<u8>>,
    identity: Option<Identity>,
    server_name: Option<String>,
}

#[derive(Clone)]
struct Identity {
    certificates: Vec<u8>,
    key: Vec<u8>,
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
        self.authorities = Some(pem.into());
        self
    }

    /// Shows servers that ask for it the certificate in `certificates` (followed by those that vouch for it, if any),
    /// which `key` belongs to; both in PEM.
    pub fn with_identity(
        mut self,
        certificates: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        self.identity = Some(Identity {
            certificates: certificates.into(),
            key: key.into(),
        });
        self
    }

    /// Verifies servers' certificates for `name` instead.
    pub fn with_server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Ready for use towards servers that are `default_name` unless another name is set.
    pub(crate) fn towards(&self, default_name: &str) -> Result<Tls, InvalidTls> {
        let name = self.server_name.as_deref().unwrap_or(default_name);
        Tls::new(self, name)
    }
}

/// Without the key.
impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("own_authorities", &self.authorities.is_some())
            .field("identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .finish()
    }
}
