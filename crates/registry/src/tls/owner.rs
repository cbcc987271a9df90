//! What has to hold of our own certificate before anybody is shown it.

use tokio_rustls::rustls::{crypto::ring::default_provider, pki_types::UnixTime};
use webpki::{EndEntityCert, KeyUsage};

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

impl Owner {
    /// What is wrong, as it is said of the certificate's file.
    pub(super) fn check(&self, credentials: &Credentials, now: UnixTime) -> Result<(), String> {
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
        self.vouched(credentials, now)
    }

    /// As those do who are shown it. A service shows its certificate as a server and as a client.
    fn vouched(&self, credentials: &Credentials, now: UnixTime) -> Result<(), String> {
        let chain = credentials.identity.as_ref().map(|own| own.cert.as_slice());
        let Some([shown, between @ ..]) = chain else {
            return Ok(());
        };
        let usages: &[fn() -> KeyUsage] = match self {
            Self::Service(_) => &[KeyUsage::client_auth, KeyUsage::server_auth],
            _ => &[KeyUsage::client_auth],
        };
        let algorithms = default_provider().signature_verification_algorithms.all;
        let trusted = &credentials.authorities.roots;
        let verified = EndEntityCert::try_from(shown).and_then(|certificate| {
            usages.iter().try_for_each(|usage| {
                let path = certificate.verify_for_usage(
                    algorithms,
                    trusted,
                    between,
                    now,
                    usage(),
                    None,
                    None,
                );
                path.map(drop)
            })
        });
        verified.map_err(|error| format!("is vouched for by none of the authorities: {error:?}"))
    }
}
