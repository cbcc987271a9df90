//! What has to hold of our own certificate before anybody is shown it.

use tokio_rustls::rustls::{crypto::ring::default_provider, pki_types::UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};

use super::{Credentials, SpiffeId, TrustDomain};

/// Whose our certificate has to be. Whoever it is, it has to be valid now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Owner {
    /// Anybody's: those who are shown it know whether they trust it.
    #[default]
    Anybody,
    /// Somebody's whom one of the authorities vouches for, as we trust the same as those who are shown it.
    Vouched,
    /// The same, of a service of this trust domain.
    Domain(TrustDomain),
    /// The same, of this service.
    Service(SpiffeId),
}

/// As what our certificate is shown, where it says for what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Role {
    #[default]
    Client,
    Server,
}

impl Owner {
    /// What is wrong, as it is said of the certificate's file.
    pub(super) fn check(
        &self,
        credentials: &Credentials,
        role: Role,
        now: UnixTime,
    ) -> Result<(), String> {
        let Some(shown) = credentials.certificate() else {
            return Ok(());
        };
        let validity = credentials.validity;
        validity.map_or(Ok(()), |validity| validity.check(now))?;
        let id =
            || SpiffeId::of(shown).map_err(|invalid| format!("says not whose it is: {invalid}"));
        match self {
            Self::Anybody => return Ok(()),
            Self::Vouched => {}
            Self::Domain(domain) => {
                let id = id()?;
                if id.trust_domain() != domain.as_str() {
                    return Err(format!("is for {id} and not for a service of {domain}"));
                }
            }
            Self::Service(wanted) => {
                let id = id()?;
                if id != *wanted {
                    return Err(format!("is for {id} and not for {wanted}"));
                }
            }
        }
        role.vouched(credentials, now)
    }
}

impl Role {
    /// As those do who are shown it.
    fn vouched(self, credentials: &Credentials, now: UnixTime) -> Result<(), String> {
        let chain = credentials.identity.as_ref().map(|own| own.cert.as_slice());
        let Some([shown, between @ ..]) = chain else {
            return Ok(());
        };
        let algorithms = default_provider().signature_verification_algorithms.all;
        let trusted = &credentials.authorities.roots;
        let verified = EndEntityCert::try_from(shown).and_then(|certificate| {
            let usage = self.usage();
            let path =
                certificate.verify_for_usage(algorithms, trusted, between, now, usage, None, None);
            path.map(drop)
        });
        verified.map_err(|error| self.refusal(&error))
    }

    fn usage(self) -> KeyUsage {
        match self {
            Self::Client => KeyUsage::client_auth(),
            Self::Server => KeyUsage::server_auth(),
        }
    }

    /// What is wrong, as it is said of the certificate's file.
    fn refusal(self, error: &Error) -> String {
        let (whom, usage) = match self {
            Self::Client => ("clients", "clientAuth"),
            Self::Server => ("servers", "serverAuth"),
        };
        match error {
            // A stranger may go by the name of an authority that is trusted.
            Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => {
                "is vouched for by none of the authorities".into()
            }
            Error::RequiredEkuNotFoundContext(_) => format!(
                "is not for {whom}: its extended key usage, or that of one that vouches for it, has no {usage}"
            ),
            // Its own validity has been looked at before.
            Error::CertExpired { .. } => "is vouched for by one that has expired".into(),
            Error::CertNotValidYet { .. } => "is vouched for by one that is not valid yet".into(),
            other => format!("cannot be verified: {other:?}"),
        }
    }
}
