//! Mutual TLS between services, as it is configured.

mod allow;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use balance::ClientTls;
use registry::{
    ServiceName,
    tls::{CredentialFiles, Followed, TrustDomain},
};
use serde::{Deserialize, Serialize};

pub use allow::{Allow, Pattern};

use super::{LimitsConfig, text};

/// How long a connection between services lasts, where no other age is set: certificates are looked at when it begins.
const CONNECTION_AGE: Duration = Duration::from_hours(1);

/// `[tls]`: mutual TLS between services. Nothing is encrypted when all is empty.
///
/// ```
/// let tls: service_kit::config::TlsConfig = toml::from_str(r#"
///     ca = "/etc/certs/ca.pem"
///     certificate = "/etc/certs/greeter.pem"
///     key = "/etc/certs/greeter-key.pem"
///     domain = "example.org"
///
///     [[allow]]
///     method = "helloworld.Greeter/*"
///     callers = ["client", "shop/*"]
/// "#)?;
/// assert!(tls.is_set());
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsConfig {
    /// The file of the domain's certificate authorities, in PEM. Whatever one of them signs is believed: another domain's has no
    /// place in it.
    #[serde(with = "text::optional")]
    pub ca: Option<String>,
    /// The file of our own certificate, in PEM.
    #[serde(with = "text::optional")]
    pub certificate: Option<String>,
    /// The file of its private key, in PEM.
    #[serde(with = "text::optional")]
    pub key: Option<String>,
    /// The trust domain: a service is known by the URI `spiffe://DOMAIN/SERVICE` in its certificate. When it is empty callers
    /// verify certificates for the service's name as a host's, and servers let in whoever an authority vouches for.
    #[serde(with = "text::optional")]
    pub domain: Option<TrustDomain>,
    /// Who may call which methods; of a method that is not named, whoever is of the domain.
    #[serde(with = "allow::list")]
    pub allow: Vec<Allow>,
}

impl TlsConfig {
    /// Whether there is to be TLS.
    pub fn is_set(&self) -> bool {
        *self != Self::default()
    }

    /// TLS for the channels of a binary that only calls others; `None` when it is not to be. Files that are being changed are waited
    /// for, for a second.
    ///
    /// # Errors
    /// When one of `ca`, `certificate` and `key` is missing or cannot be used, or the certificate is of another domain.
    pub async fn client(&self) -> anyhow::Result<Option<ClientTls>> {
        if !self.is_set() {
            return Ok(None);
        }
        let files = self.files()?;
        let files = match &self.domain {
            Some(domain) => files.with_trust_domain(domain.clone()),
            None => files.with_vouched_identity(),
        };
        let files = followed(files).await?;
        Ok(Some(towards_servers(files, self.domain.as_ref())))
    }

    /// TLS for the server of `service`, and for its channels.
    ///
    /// # Errors
    /// When one of `ca`, `certificate` and `key` is missing or cannot be used, the certificate is another service's, or
    /// `allow` names callers where there is no domain.
    pub(crate) async fn of_service(&self, service: &ServiceName) -> anyhow::Result<Option<Tls>> {
        if !self.is_set() {
            return Ok(None);
        }
        ensure!(
            self.domain.is_some() || self.allow.is_empty(),
            "tls.allow is set without tls.domain, and nobody is known without one"
        );
        let files = self.files()?;
        let files = match &self.domain {
            Some(domain) => files.with_spiffe_id(domain.identity(service)),
            None => files.with_vouched_identity(),
        };
        Ok(Some(Tls {
            files: followed(files.for_server()).await?,
            domain: self.domain.clone(),
            service: service.clone(),
            allow: self.allow.clone().into(),
        }))
    }

    fn files(&self) -> anyhow::Result<CredentialFiles> {
        match (&self.ca, &self.certificate, &self.key) {
            (Some(ca), Some(certificate), Some(key)) => Ok(CredentialFiles::new()
                .with_authorities(ca)
                .with_identity(certificate, key)),
            (ca, certificate, key) => {
                let missing = [("ca", ca), ("certificate", certificate), ("key", key)];
                let missing = missing.iter().filter(|(_, file)| file.is_none());
                let missing: Vec<_> = missing.map(|(name, _)| format!("tls.{name}")).collect();
                bail!(
                    "[tls] is set without {}: mutual TLS needs tls.ca, tls.certificate and tls.key",
                    missing.join(" and ")
                )
            }
        }
    }
}

/// Files that could be used when they were read first.
async fn followed(files: CredentialFiles) -> anyhow::Result<Arc<Followed>> {
    let files = files.follow();
    let read = files.in_force().await.map_err(anyhow::Error::msg);
    read.context("cannot use the files of [tls]")?;
    Ok(files)
}

fn towards_servers(files: Arc<Followed>, domain: Option<&TrustDomain>) -> ClientTls {
    let tls = ClientTls::new().with_files(files);
    match domain {
        Some(domain) => tls.with_trust_domain(domain.clone()),
        None => tls,
    }
}

/// Mutual TLS of a service: its files, which server and channels share, and who may call it.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub(crate) files: Arc<Followed>,
    pub(crate) domain: Option<TrustDomain>,
    pub(crate) service: ServiceName,
    pub(crate) allow: Arc<[Allow]>,
}

impl Tls {
    /// What is done, in words for a log: whoever has misconfigured it is to see that.
    pub(crate) fn described(tls: Option<&Self>) -> String {
        match tls {
            None => "none".to_owned(),
            Some(Self { domain: None, .. }) => {
                "mutual, of whoever an authority vouches for".to_owned()
            }
            Some(Self {
                domain: Some(domain),
                ..
            }) => format!("mutual, of {domain}"),
        }
    }

    /// The limits of a server whose connections are to end with the certificates that they began with, or not long after.
    pub(crate) fn limits(limits: &LimitsConfig) -> LimitsConfig {
        LimitsConfig {
            connection_age: limits.connection_age.or(Some(CONNECTION_AGE)),
            ..limits.clone()
        }
    }

    /// For the service's own calls.
    pub(crate) fn client(&self) -> ClientTls {
        towards_servers(Arc::clone(&self.files), self.domain.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::{CONNECTION_AGE, Duration, LimitsConfig, Tls};

    #[test]
    fn a_connection_between_services_has_an_age_unless_another_is_set() {
        let mut limits = LimitsConfig::default();
        let age = |limits: &LimitsConfig| Tls::limits(limits).connection_age;
        assert_eq!(age(&limits), Some(CONNECTION_AGE));
        limits.connection_age = Some(Duration::from_mins(5));
        assert_eq!(age(&limits), limits.connection_age);
    }
}
