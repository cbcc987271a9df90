//! What TLS is made of: whom to trust, and who we are.

use std::{fmt, sync::Arc};

use tokio_rustls::rustls::{
    Error, InconsistentKeys, RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use super::Validity;

/// A certificate (followed by those that vouch for it, if any), and its private key, as they are written.
pub(super) type Identity = (Vec<u8>, Vec<u8>);

/// Whom to trust, and who we are, as it is written: in PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Pem {
    /// The certificate authorities to trust; those of the system when `None`.
    pub authorities: Option<Vec<u8>>,
    /// Our certificate (followed by those that vouch for it, if any), and its private key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// Without the key.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pem")
            .field("authorities", &self.authorities.is_some())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

/// Whom to trust, and who we are. Debugging it shows no key.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The certificate authorities to trust.
    pub authorities: Arc<RootCertStore>,
    /// Our certificate with its key, if there is any.
    pub identity: Option<Arc<CertifiedKey>>,
    /// From when to when that certificate is valid.
    pub validity: Option<Validity>,
}

/// Why these are no credentials. No text of it holds any of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCredentials {
    /// The certificate authorities are none.
    #[error("{0}")]
    Authorities(String),
    /// The system has no certificate authorities.
    #[error("the system has no certificate authorities{0}; name a file that has some")]
    NoSystemAuthorities(String),
    /// Our certificate is none.
    #[error("{0}")]
    Certificate(String),
    /// The key is not our certificate's.
    #[error("the key is not the certificate's")]
    AnothersKey,
    /// Our key is none.
    #[error("there is no private key")]
    Key,
    /// Our key is of no kind that there is a signature for.
    #[error("the private key cannot be used: it is no RSA, ECDSA or Ed25519 key of a usual size")]
    UnusableKey,
}

impl Credentials {
    /// Reads them.
    pub fn from_pem(pem: &Pem) -> Result<Self, InvalidCredentials> {
        Self::new(&trusted(pem.authorities.as_deref())?, pem.identity.as_ref())
    }

    /// Reads who we are, in PEM, beside whom to trust.
    pub(super) fn new(
        authorities: &Arc<RootCertStore>,
        identity: Option<&Identity>,
    ) -> Result<Self, InvalidCredentials> {
        let identity = identity.map(|(certificate, key)| identified(certificate, key));
        let identity = identity.transpose()?;
        let shown = identity.as_ref().and_then(|identity| identity.cert.first());
        let validity = shown.map(Validity::of).transpose();
        Ok(Self {
            authorities: Arc::clone(authorities),
            validity: validity.map_err(InvalidCredentials::Certificate)?,
            identity: identity.map(Arc::new),
        })
    }

    /// The same, trusting others.
    pub(super) fn trusting(&self, authorities: &Arc<RootCertStore>) -> Self {
        Self {
            authorities: Arc::clone(authorities),
            ..self.clone()
        }
    }

    /// The certificate that we show.
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.identity.as_ref()?.cert.first()
    }
}

/// Reads whom to trust, in PEM; those of the system when there is none.
pub(super) fn trusted(pem: Option<&[u8]>) -> Result<Arc<RootCertStore>, InvalidCredentials> {
    let roots = match pem {
        Some(pem) => authorities(pem).map_err(InvalidCredentials::Authorities)?,
        None => system_authorities()?,
    };
    Ok(Arc::new(roots))
}

fn identified(certificate: &[u8], key: &[u8]) -> Result<CertifiedKey, InvalidCredentials> {
    let chain = certificates(certificate).map_err(InvalidCredentials::Certificate)?;
    // What the parser says of a key is not repeated: it might quote it.
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| InvalidCredentials::Key)?;
    let key = default_provider().key_provider.load_private_key(key);
    let own = CertifiedKey::new(chain, key.map_err(|_| InvalidCredentials::UnusableKey)?);
    match own.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(own),
        Err(Error::InconsistentKeys(_)) => Err(InvalidCredentials::AnothersKey),
        Err(other) => Err(InvalidCredentials::Certificate(other.to_string())),
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

fn authorities(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

/// Those that can be used: every system has some odd ones.
fn system_authorities() -> Result<RootCertStore, InvalidCredentials> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first();
        let why = why.map_or_else(String::new, |error| format!(" ({error})"));
        return Err(InvalidCredentials::NoSystemAuthorities(why));
    }
    Ok(roots)
}
