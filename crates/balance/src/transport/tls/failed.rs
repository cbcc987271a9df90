//! Why a TLS handshake failed, in words that say whose fault it is.

use std::io;

use tokio_rustls::rustls::{
    AlertDescription, CertificateError, Error, OtherError, pki_types::ServerName,
};

use super::peer::WrongIdentity;

/// What came of a handshake.
#[derive(Debug, thiserror::Error)]
pub(in crate::transport) enum TlsFailed {
    #[error("the server's certificate is for {presented} and not for {wanted}")]
    WrongName { wanted: String, presented: String },
    #[error(
        "the server's certificate is not vouched for by a certificate authority that is trusted"
    )]
    UnknownAuthority,
    #[error("the server's certificate has expired")]
    Expired(#[source] Error),
    #[error("the server's certificate is not valid yet")]
    NotYetValid(#[source] Error),
    #[error("the server's certificate is not usable")]
    Certificate(#[source] Error),
    #[error("the server does not speak TLS")]
    NotTls(#[source] Error),
    #[error("the server speaks TLS, but not HTTP/2 over it (ALPN h2)")]
    NoHttp2,
    #[error("the server refuses us")]
    Refused(#[source] Error),
    #[error(
        "the server closed the connection in the handshake, as one does that does not speak TLS"
    )]
    Closed,
    #[error("TLS cannot be used: {0}")]
    Unusable(String),
    #[error("the handshake failed")]
    Other(#[source] io::Error),
}

impl TlsFailed {
    pub(super) fn of(error: io::Error, wanted: &ServerName<'_>) -> Self {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Error>());
        match tls {
            Some(tls) => Self::of_tls(tls.clone(), wanted),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Closed,
            None => Self::Other(error),
        }
    }

    fn of_tls(error: Error, wanted: &ServerName<'_>) -> Self {
        match &error {
            Error::InvalidCertificate(problem) => match problem {
                CertificateError::NotValidForNameContext { presented, .. } => Self::WrongName {
                    wanted: wanted.to_str().into_owned(),
                    presented: names(presented),
                },
                CertificateError::NotValidForName => Self::WrongName {
                    wanted: wanted.to_str().into_owned(),
                    presented: names(&[]),
                },
                // A stranger may go by the name of an authority that is trusted.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    Self::UnknownAuthority
                }
                CertificateError::Other(OtherError(other)) => match other.downcast_ref() {
                    Some(WrongIdentity { wanted, presented }) => Self::WrongName {
                        wanted: wanted.to_string(),
                        presented: presented.clone(),
                    },
                    None => Self::Certificate(error),
                },
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    Self::Expired(error)
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    Self::NotYetValid(error)
                }
                _ => Self::Certificate(error),
            },
            Error::InvalidMessage(_) => Self::NotTls(error),
            Error::AlertReceived(AlertDescription::NoApplicationProtocol)
            | Error::NoApplicationProtocol => Self::NoHttp2,
            Error::AlertReceived(_) => Self::Refused(error),
            _ => Self::Other(io::Error::other(error)),
        }
    }
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
