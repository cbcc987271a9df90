//! How an etcd is spoken to, and as whom.

use anyhow::{bail, ensure};
use registry::backend::etcd::{EtcdOptions, EtcdTls, EtcdUser};
use serde::{Deserialize, Serialize};

use super::{RegistryConfig, text};

/// `[registry.tls]`: TLS towards an etcd whose URL begins with `etcds://`. None of it is set when all are empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RegistryTlsConfig {
    /// The file of the certificate authorities to trust, in PEM; those of the system when empty.
    #[serde(with = "text::optional")]
    pub ca: Option<String>,
    /// The file of the certificate to show, in PEM; none when empty.
    #[serde(with = "text::optional")]
    pub certificate: Option<String>,
    /// The file of the certificate's private key, in PEM; none when empty.
    #[serde(with = "text::optional")]
    pub key: Option<String>,
    /// The name that the members' certificates are to be for; the host in the URL when empty.
    #[serde(with = "text::optional")]
    pub server_name: Option<String>,
}

impl RegistryTlsConfig {
    fn options(&self) -> anyhow::Result<EtcdTls> {
        let mut tls = EtcdTls::new();
        if let Some(ca) = &self.ca {
            tls = tls.with_authorities(ca);
        }
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => tls = tls.with_identity(certificate, key),
            (None, None) => {}
            (Some(_), None) => bail!("registry.tls.certificate is set without registry.tls.key"),
            (None, Some(_)) => bail!("registry.tls.key is set without registry.tls.certificate"),
        }
        if let Some(name) = &self.server_name {
            tls = tls.with_server_name(name)?;
        }
        Ok(tls)
    }
}

/// What the configuration adds to the URL of an etcd.
#[derive(Debug)]
pub(super) struct Access {
    tls: Option<EtcdTls>,
    user: Option<EtcdUser>,
    member_list: bool,
}

impl Access {
    pub(super) fn of(config: &RegistryConfig) -> anyhow::Result<Self> {
        let is_secured = config.url.starts_with("etcds:");
        ensure!(
            is_secured
                || !config.url.starts_with("etcd:")
                || config.tls == RegistryTlsConfig::default(),
            "registry.tls is set and registry.url begins with etcd://, which is without TLS; write etcds://"
        );
        let user = match (&config.user, &config.password_file) {
            (Some(user), Some(file)) => Some(EtcdUser::from_file(user, file)),
            (None, None) => None,
            (Some(_), None) => bail!("registry.user is set without registry.password_file"),
            (None, Some(_)) => bail!("registry.password_file is set without registry.user"),
        };
        let tls = is_secured.then(|| config.tls.options()).transpose()?;
        Ok(Self {
            tls,
            user,
            member_list: config.member_list,
        })
    }

    pub(super) fn applied_to(self, etcd: EtcdOptions) -> EtcdOptions {
        let mut etcd = etcd.with_member_list(self.member_list);
        if let Some(tls) = self.tls {
            etcd = etcd.with_tls(tls);
        }
        if let Some(user) = self.user {
            etcd = etcd.with_user(user);
        }
        etcd
    }
}
