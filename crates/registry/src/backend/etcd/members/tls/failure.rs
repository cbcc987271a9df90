//! Why there is no TLS with a member, in words that say whose fault it is.

use std::io;

use tokio_rustls::rustls::{
    AlertDescription, CertificateError, Error,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use webpki::{EndEntityCert, KeyUsage};

/// Why there is no TLS with a member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFailure {
    /// The member's certificate is for others.
    #[error("the member's certificate is for {presented} and not for {wanted}")]
    WrongName {
        /// The name that was asked for.
        wanted: String,
        /// The names in the certificate.
        presented: String,
    },
    /// Nobody who is trusted vouches for the member's certificate.
    #[error(
        "the member's certificate is not vouched for by a certificate authority that is trusted"
    )]
    UnknownAuthority,
    /// The member's certificate has expired.
    #[error("the member's certificate has expired")]
    Expired,
    /// The member's certificate is not valid yet.
    #[error("the member's certificate is not valid yet")]
    NotYetValid,
    /// The member's certificate is unusable in another way.
    #[error("the member's certificate is not usable: {0}")]
    Certificate(String),
    /// The member asks for a certificate, and we have none.
    #[error("the member asks for a client's certificate, and none is configured")]
    NoCertificate,
    /// Our certificate has expired, and the member refuses it.
    #[error("the member refuses our certificate, which has expired")]
    OursExpired,
    /// The member refuses our certificate.
    #[error("the member refuses our certificate ({0})")]
    OursRefused(String),
    /// The files of our certificate, its key or the authorities cannot be used, and none were in force before.
    #[error("TLS cannot be used: {0}")]
    Unusable(String),
    /// The member does not speak TLS.
    #[error("the member does not speak TLS")]
    NotTls,
    /// The member speaks TLS, and no HTTP/2 over it.
    #[error("the member speaks TLS, but not HTTP/2 over it (ALPN h2)")]
    NoHttp2,
    /// The member closed the connection.
    #[error(
        "the member closed the connection in the handshake, as one does that does not speak TLS"
    )]
    Closed,
    /// Anything else.
    #[error("the handshake failed: {0}")]
    Other(String),
}

impl TlsFailure {
    /// What an error of a handshake with `wanted` means, or one that came after it. `ours` is the certificate that was
    /// shown.
    pub(super) fn of(
        error: &io::Error,
        wanted: &ServerName<'_>,
        ours: Option<&CertificateDer<'_>>,
    ) -> Self {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Error>());
        match tls {
            Some(Error::InvalidCertificate(problem)) => Self::of_theirs(problem, wanted),
            Some(Error::InvalidMessage(_)) => Self::NotTls,
            Some(
                Error::NoApplicationProtocol
                | Error::AlertReceived(AlertDescription::NoApplicationProtocol),
            ) => Self::NoHttp2,
            Some(Error::AlertReceived(alert)) if is_of_a_certificate(*alert) => {
                Self::of_ours(*alert, ours)
            }
            Some(other) => Self::Other(other.to_string()),
            None => match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Self::Closed,
                _ => Self::Other(error.to_string()),
            },
        }
    }

    fn of_theirs(problem: &CertificateError, wanted: &ServerName<'_>) -> Self {
        let wrong_name = |presented: &[String]| Self::WrongName {
            wanted: wanted.to_str().into_owned(),
            presented: names(presented),
        };
        match problem {
            CertificateError::NotValidForNameContext { presented, .. } => wrong_name(presented),
            CertificateError::NotValidForName => wrong_name(&[]),
            // A stranger may go by the name of an authority that is trusted.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Self::UnknownAuthority
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            other => Self::Certificate(Error::from(other.clone()).to_string()),
        }
    }

    /// Members say little: older ones call every certificate that they refuse a bad one.
    fn of_ours(alert: AlertDescription, ours: Option<&CertificateDer<'_>>) -> Self {
        match ours {
            None => Self::NoCertificate,
            Some(ours) if alert == AlertDescription::CertificateExpired || has_expired(ours) => {
                Self::OursExpired
            }
            Some(_) => Self::OursRefused(format!("it says {alert:?}")),
        }
    }
}

fn is_of_a_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::AccessDenied
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::NoCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::UnsupportedCertificate
    )
}

/// Verifying looks at the dates before it looks for somebody to vouch for the certificate: that nobody does is no matter.
fn has_expired(certificate: &CertificateDer<'_>) -> bool {
    let verified = EndEntityCert::try_from(certificate).and_then(|certificate| {
        let usage = KeyUsage::client_auth();
        let verified =
            certificate.verify_for_usage(&[], &[], &[], UnixTime::now(), usage, None, None);
        verified.map(drop)
    });
    matches!(verified, Err(webpki::Error::CertExpired { .. }))
}

/// The names in a certificate, which the library gives as `DnsName("a.example")`.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| match name.split('"').nth(1) {
        Some(bare) => bare.to_owned(),
        None => name.clone(),
    };
    let names: Vec<_> = presented.iter().map(bare).collect();
    if names.is_empty() {
        "no name at all".into()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use testkit::tls::Authority;
    use tokio_rustls::rustls::pki_types::pem::PemObject;

    use super::{AlertDescription, CertificateDer, Error, ServerName, TlsFailure};

    #[test]
    fn a_certificate_that_has_expired_in_use_is_told_from_one_that_is_refused_otherwise() {
        let authority = Authority::new().expect("an authority");
        let of = |pem: String| CertificateDer::from_pem_slice(pem.as_bytes()).expect("one");
        let expired = of(authority.sign_expired("ann").expect("one").certificate);
        let valid = of(authority.sign("ann").expect("one").certificate);
        let member = ServerName::try_from("etcd").expect("a name");
        let alert = Error::AlertReceived(AlertDescription::BadCertificate);
        let error = io::Error::other(alert);
        let told = |ours| TlsFailure::of(&error, &member, Some(ours));
        assert_eq!(told(&expired), TlsFailure::OursExpired);
        assert!(matches!(told(&valid), TlsFailure::OursRefused(_)));
    }
}
