//! From when to when a certificate is valid.

use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::parse_x509_certificate;

/// From when to when a certificate is valid, both in seconds since 1970, and both of them in it (RFC 5280, section 4.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From when on.
    pub not_before: i64,
    /// Until when.
    pub not_after: i64,
}

impl Validity {
    /// That of a certificate.
    ///
    /// # Errors
    /// Why it is no certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let parsed = parse_x509_certificate(certificate);
        let (_, certificate) = parsed.map_err(|error| error.to_string())?;
        let validity = certificate.validity();
        Ok(Self {
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }

    /// What is wrong, as it is said of the certificate's file.
    pub(super) fn check(self, now: UnixTime) -> Result<(), String> {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < self.not_before {
            Err("is not valid yet".into())
        } else if now > self.not_after {
            Err("has expired".into())
        } else {
            Ok(())
        }
    }
}
