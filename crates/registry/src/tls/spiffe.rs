//! Who somebody is: SPIFFE IDs, and certificates that carry one (SPIFFE-ID and X509-SVID of <https://spiffe.io>).

use std::{fmt, str::FromStr, sync::Arc};

use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::{
    asn1_rs::Tag, certificate::X509Certificate, error::X509Error, extensions::GeneralName,
    parse_x509_certificate,
};

use crate::ServiceName;

const SCHEME: &str = "spiffe://";
/// Among a certificate's names (RFC 5280, section 4.2.1.6).
const URI: Tag = Tag(6);
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
    /// The certificate is one to sign others with, and says of nobody who he is.
    #[error("the certificate is an authority's (cA, keyCertSign or cRLSign)")]
    Authority,
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
    /// What a validator has to refuse (X509-SVID, section 5.2): the certificate of an authority, one that has no URI name or
    /// several, or one that is no SPIFFE ID or a trust domain's own.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, InvalidSpiffeId> {
        let (_, certificate) = parse_x509_certificate(certificate).map_err(unreadable)?;
        if signs_others(&certificate).map_err(unreadable)? {
            return Err(InvalidSpiffeId::Authority);
        }
        let uris = uris(&certificate).map_err(unreadable)?;
        let [uri] = uris[..] else {
            return Err(InvalidSpiffeId::Uris(uris.len()));
        };
        // What is not UTF-8 is no SPIFFE ID, whatever stands in for it.
        let uri = String::from_utf8_lossy(uri);
        let id: Self = uri.parse()?;
        if id.path().is_empty() {
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

fn unreadable(error: impl fmt::Display) -> InvalidSpiffeId {
    InvalidSpiffeId::Certificate(error.to_string())
}

fn signs_others(certificate: &X509Certificate<'_>) -> Result<bool, X509Error> {
    let constraints = certificate.basic_constraints()?;
    let usage = certificate.key_usage()?;
    let usage = usage.map(|usage| usage.value);
    Ok(constraints.is_some_and(|constraints| constraints.value.ca)
        || usage.is_some_and(|usage| usage.key_cert_sign() || usage.crl_sign()))
}

/// The URIs among its names, whether or not they are text.
fn uris<'a>(certificate: &'a X509Certificate<'_>) -> Result<Vec<&'a [u8]>, X509Error> {
    let names = certificate.subject_alternative_name()?;
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let uris = names.filter_map(|name| match name {
        GeneralName::URI(uri) => Some(uri.as_bytes()),
        GeneralName::Invalid(URI, uri) => Some(uri),
        _ => None,
    });
    Ok(uris.collect())
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, KeyUsagePurpose};
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
        for nobody in [
            "https://example.org/greeter",
            "SPIFFE://example.org/greeter",
            "spiffe://example.org",
            "spiffe://example.org/",
            "spiffe:///greeter",
            "spiffe://ann@example.org/greeter",
            "spiffe://example.org:443/greeter",
            "spiffe://example.org/greeter?version=v2",
            "spiffe://example.org/greeter#one",
            "spiffe://example.org/%67reeter",
            "spiffe://Example.org/greeter",
        ] {
            assert_eq!(read(&[nobody]), Err(InvalidSpiffeId::Id(nobody.into())));
        }
    }

    #[test]
    fn a_certificate_that_may_sign_others_says_of_nobody_who_he_is() {
        let authority = Authority::new().expect("an authority");
        let read = |change: fn(&mut CertificateParams)| {
            let signed = authority.sign_spiffe_with("spiffe://example.org/greeter", change);
            let pem = signed.expect("a certificate").certificate;
            SpiffeId::of(&CertificateDer::from_pem_slice(pem.as_bytes()).expect("one"))
        };
        read(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]).expect("an id");
        read(|params| params.is_ca = IsCa::ExplicitNoCa).expect("an id");
        for authority in [
            read(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            read(|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]),
            read(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]),
        ] {
            assert_eq!(authority, Err(InvalidSpiffeId::Authority));
        }
    }

    #[test]
    fn a_second_uri_counts_though_it_is_no_text() {
        let authority = Authority::new().expect("an authority");
        let signed = authority.sign_spiffe_with("spiffe://example.org/greeter", |params| {
            params.subject_alt_names.clear();
            // GeneralNames of two URIs, the second of one byte that is not ASCII.
            let names = b"\x30\x0f\x86\x0aspiffe://a\x86\x01\xff";
            let names = CustomExtension::from_oid_content(&[2, 5, 29, 17], names.to_vec());
            params.custom_extensions.push(names);
        });
        let pem = signed.expect("a certificate").certificate;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).expect("one");
        assert_eq!(SpiffeId::of(&certificate), Err(InvalidSpiffeId::Uris(2)));
    }
}
