//! Who somebody is: SPIFFE IDs, and certificates that carry one (SPIFFE-ID and X509-SVID of <https://spiffe.io>).

use std::{fmt, str::FromStr, sync::Arc};

use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::ServiceName;

const SCHEME: &str = "spiffe://";
/// SPIFFE-ID, sections 2.1 and 2.3.
const LONGEST_DOMAIN: usize = 255;
const LONGEST: usize = 2048;

/// Why that is nobody's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSpiffeId {
    /// It is no trust domain.
    #[error(
        "{0:?} is no trust domain: lower-case letters, digits, '.', '-' and '_', as in example.org"
    )]
    TrustDomain(String),
    /// It is no SPIFFE ID.
    #[error("{0:?} is no SPIFFE ID; one is spiffe://DOMAIN/SERVICE")]
    Id(String),
    /// The certificate carries none, or several.
    #[error("the certificate has {0} URI names; one that says who its owner is has exactly one")]
    Uris(usize),
    /// It is no certificate.
    #[error("that is no certificate: {0}")]
    Certificate(String),
}

/// Within which SPIFFE IDs are given by one authority.
///
/// ```
/// use registry::{ServiceName, tls::TrustDomain};
/// let domain: TrustDomain = "example.org".parse()?;
/// let service = ServiceName::new("shop/basket")?;
/// assert_eq!(domain.identity(&service).as_str(), "spiffe://example.org/shop/basket");
/// assert!("Example.org".parse::<TrustDomain>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Its name, as in `example.org`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trust domain's own SPIFFE ID, which its authority has.
    pub fn id(&self) -> SpiffeId {
        SpiffeId(format!("{SCHEME}{self}").into())
    }

    /// A service's SPIFFE ID: a service's name is a path that one may have.
    pub fn identity(&self, service: &ServiceName) -> SpiffeId {
        SpiffeId(format!("{SCHEME}{self}/{service}").into())
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidSpiffeId;

    fn from_str(text: &str) -> Result<Self, InvalidSpiffeId> {
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_')
        };
        if (1..=LONGEST_DOMAIN).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidSpiffeId::TrustDomain(text.into()))
        }
    }
}

/// Who somebody is: `spiffe://DOMAIN/SERVICE`.
///
/// ```
/// use registry::tls::SpiffeId;
/// let id: SpiffeId = "spiffe://example.org/shop/basket".parse()?;
/// assert_eq!((id.trust_domain(), id.path()), ("example.org", "shop/basket"));
/// for none in ["example.org/basket", "spiffe:///basket", "spiffe://example.org/", "spiffe://a:1/b", "spiffe://a/../b"] {
///     assert!(none.parse::<SpiffeId>().is_err(), "{none}");
/// }
/// # Ok::<(), registry::tls::InvalidSpiffeId>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId(Arc<str>);

impl SpiffeId {
    /// Who the owner of the certificate is. Whether somebody vouches for that is another question.
    ///
    /// # Errors
    /// A certificate that has no URI name or several (X509-SVID, section 2), or one that is no SPIFFE ID.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, InvalidSpiffeId> {
        let certificate = EndEntityCert::try_from(certificate)
            .map_err(|error| InvalidSpiffeId::Certificate(error.to_string()))?;
        let uris: Vec<_> = certificate.valid_uri_names().collect();
        let [uri] = uris[..] else {
            return Err(InvalidSpiffeId::Uris(uris.len()));
        };
        let id: Self = uri.parse()?;
        if id.path().is_empty() {
            // A trust domain's own name is its authority's (X509-SVID, section 2).
            return Err(InvalidSpiffeId::Id(uri.into()));
        }
        Ok(id)
    }

    /// All of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trust domain's name.
    pub fn trust_domain(&self) -> &str {
        self.parts().0
    }

    /// What follows the trust domain, less the first `/`: a service's name, in a domain whose identities are services.
    pub fn path(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        let rest = &self.0[SCHEME.len()..];
        rest.split_once('/').unwrap_or((rest, ""))
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidSpiffeId;

    fn from_str(text: &str) -> Result<Self, InvalidSpiffeId> {
        let invalid = || InvalidSpiffeId::Id(text.into());
        let rest = text.strip_prefix(SCHEME).ok_or_else(invalid)?;
        let (domain, path) = match rest.split_once('/') {
            Some((domain, path)) => (domain, Some(path)),
            None => (rest, None),
        };
        domain.parse::<TrustDomain>().map_err(|_| invalid())?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let is_segment =
            |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(allowed);
        if text.len() <= LONGEST && path.is_none_or(|path| path.split('/').all(is_segment)) {
            Ok(Self(text.into()))
        } else {
            Err(invalid())
        }
    }
}

#[cfg(test)]
mod tests {
    use testkit::tls::Authority;
    use tokio_rustls::rustls::pki_types::pem::PemObject;

    use super::{CertificateDer, InvalidSpiffeId, SpiffeId};

    #[test]
    fn a_certificate_says_who_its_owner_is_with_exactly_one_uri() {
        let authority = Authority::new().expect("an authority");
        let read = |uris: &[&str]| {
            let signed = authority.sign_uris(uris).expect("a certificate");
            let pem = signed.certificate.as_bytes();
            SpiffeId::of(&CertificateDer::from_pem_slice(pem).expect("one"))
        };
        let id = read(&["spiffe://example.org/greeter"]).expect("an id");
        assert_eq!(id.as_str(), "spiffe://example.org/greeter");
        assert_eq!(read(&[]), Err(InvalidSpiffeId::Uris(0)));
        let both = ["spiffe://example.org/a", "spiffe://example.org/b"];
        assert_eq!(read(&both), Err(InvalidSpiffeId::Uris(2)));
        for nobody in ["https://example.org/greeter", "spiffe://example.org"] {
            assert_eq!(read(&[nobody]), Err(InvalidSpiffeId::Id(nobody.into())));
        }
    }
}
