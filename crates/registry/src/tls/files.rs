//! Where credentials are, and what has to hold of them.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::rustls::{RootCertStore, pki_types::UnixTime};

use super::{
    Credentials, Followed, InvalidCredentials, SpiffeId, TrustDomain,
    credentials::{Identity, trusted},
    owner::{Owner, Role},
};
use crate::bounded;

/// The most that is read of a file, in bytes: four times what the authorities of a whole system take.
const LARGEST: u64 = 1024 * 1024;

/// Where credentials are, in PEM.
///
/// ```
/// use registry::tls::CredentialFiles;
/// let files = CredentialFiles::new()
///     .with_authorities("/etc/certs/ca.pem")
///     .with_identity("/etc/certs/greeter.pem", "/etc/certs/greeter-key.pem")
///     .with_spiffe_id("spiffe://example.org/greeter".parse()?);
/// // They are read when they are followed.
/// assert!(files.follow().at_once().unwrap_err().contains("/etc/certs/ca.pem"));
/// # Ok::<(), registry::tls::InvalidSpiffeId>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CredentialFiles {
    authorities: Option<PathBuf>,
    /// The certificate's file, and its key's.
    identity: Option<(PathBuf, PathBuf)>,
    owner: Owner,
    role: Role,
}

impl CredentialFiles {
    /// No files: the system's certificate authorities, and no certificate of our own.
    pub fn new() -> Self {
        Self::default()
    }

    /// The file of the certificate authorities to trust, and no others.
    pub fn with_authorities(mut self, file: impl Into<PathBuf>) -> Self {
        self.authorities = Some(file.into());
        self
    }

    /// The files of our certificate (followed by those that vouch for it, if any), and of its key.
    pub fn with_identity(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// Our certificate has to be vouched for by the authorities that we trust, as others who trust the same are shown it; else it
    /// cannot be used. Without this, whether anybody vouches for it is for those to say.
    pub fn with_vouched_identity(mut self) -> Self {
        self.owner = Owner::Vouched;
        self
    }

    /// The same, and it has to be for a service of that trust domain (X509-SVID, section 5.2).
    pub fn with_trust_domain(mut self, domain: TrustDomain) -> Self {
        self.owner = Owner::Domain(domain);
        self
    }

    /// The same, and it has to be for that service.
    pub fn with_spiffe_id(mut self, id: SpiffeId) -> Self {
        self.owner = Owner::Service(id);
        self
    }

    /// Our certificate has to be one for servers (`serverAuth`), which one for clients (`clientAuth`) need not be. Without this it is
    /// the other way round. One without an extended key usage is for both. Where nobody has to vouch for it, this is not looked at.
    pub fn for_server(mut self) -> Self {
        self.role = Role::Server;
        self
    }

    /// Follows them; nothing is read yet. Those who share what is returned read once for all of them.
    pub fn follow(self) -> Arc<Followed> {
        Arc::new(Followed::new(self))
    }

    /// Whom to trust, in PEM.
    pub(super) fn read_authorities(&self) -> Result<Option<Vec<u8>>, String> {
        self.authorities.as_deref().map(read).transpose()
    }

    /// Our certificate and its key, in PEM.
    pub(super) fn read_identity(&self) -> Result<Option<Identity>, String> {
        let read_both = |(certificate, key): &(PathBuf, PathBuf)| {
            let its_key = |problem| format!("{problem} (the key of {})", certificate.display());
            Ok((read(certificate)?, read(key).map_err(its_key)?))
        };
        self.identity.as_ref().map(read_both).transpose()
    }

    /// Whom to trust.
    pub(super) fn trusted(&self, pem: Option<&[u8]>) -> Result<Arc<RootCertStore>, String> {
        trusted(pem).map_err(|invalid| self.in_file(&invalid))
    }

    /// Who we are beside whom to trust, where all holds that has to.
    pub(super) fn usable(
        &self,
        authorities: &Arc<RootCertStore>,
        identity: Option<&Identity>,
    ) -> Result<Credentials, String> {
        let credentials = Credentials::new(authorities, identity);
        let credentials = credentials.map_err(|invalid| self.in_file(&invalid))?;
        if let Some((file, _)) = &self.identity {
            let checked = self.owner.check(&credentials, self.role, UnixTime::now());
            checked.map_err(|problem| format!("{} {problem}", file.display()))?;
        }
        Ok(credentials)
    }

    /// What is wrong, with the file that it is wrong in.
    fn in_file(&self, invalid: &InvalidCredentials) -> String {
        let in_file = |file: &PathBuf| format!("{}: {invalid}", file.display());
        match (invalid, &self.authorities, &self.identity) {
            (InvalidCredentials::Authorities(_), Some(file), _)
            | (InvalidCredentials::Certificate(_), _, Some((file, _))) => in_file(file),
            (
                InvalidCredentials::Key | InvalidCredentials::UnusableKey,
                _,
                Some((certificate, key)),
            ) => {
                format!("{} (the key of {})", in_file(key), certificate.display())
            }
            (InvalidCredentials::AnothersKey, _, Some((certificate, key))) => {
                format!(
                    "{}: its key is not that in {}",
                    certificate.display(),
                    key.display()
                )
            }
            _ => invalid.to_string(),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    bounded::read(path, LARGEST).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// The files' names.
impl fmt::Display for CredentialFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.identity.iter();
        let own = own.flat_map(|(certificate, key)| [certificate, key]);
        let all = self.authorities.iter().chain(own);
        let names: Vec<_> = all.map(|file| file.display().to_string()).collect();
        f.write_str(&names.join(", "))
    }
}
