//! A certificate authority for tests, and what it signs, as files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType, date_time_ymd,
};

/// A certificate authority that nobody trusts unless told to.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// The files of a certificate and its key.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate's.
    pub certificate: PathBuf,
    /// Its private key's.
    pub key: PathBuf,
}

impl Authority {
    /// An authority with a key of its own.
    pub fn new() -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = pem("CERTIFICATE", params.self_signed(&key)?.der());
        let issuer = Issuer::new(params, key);
        Ok(Self {
            certificate,
            issuer,
        })
    }

    /// Its own certificate, in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate for `name`, a host or a user, that servers and clients may show.
    pub fn sign(&self, name: &str) -> Result<Signed> {
        self.sign_params(name, |_| ())
    }

    /// The same, which has expired long ago.
    pub fn sign_expired(&self, name: &str) -> Result<Signed> {
        self.sign_params(name, expire)
    }

    /// One that says with a URI who its owner is, and is for the host `localhost` besides.
    pub fn sign_spiffe(&self, id: &str) -> Result<Signed> {
        self.sign_uris(&[id])
    }

    /// The same, which has expired long ago.
    pub fn sign_spiffe_expired(&self, id: &str) -> Result<Signed> {
        self.sign_spiffe_with(id, expire)
    }

    /// The same, which will be valid in a time that nobody lives to see.
    pub fn sign_spiffe_not_yet_valid(&self, id: &str) -> Result<Signed> {
        self.sign_spiffe_with(id, |params| {
            params.not_before = date_time_ymd(3000, 1, 1);
            params.not_after = date_time_ymd(3001, 1, 1);
        })
    }

    /// The same, changed.
    pub fn sign_spiffe_with(
        &self,
        id: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<Signed> {
        let uri = SanType::URI(id.try_into()?);
        self.sign_params("localhost", |params| {
            params.subject_alt_names.push(uri);
            change(params);
        })
    }

    /// One with these URIs, for the host `localhost` besides.
    pub fn sign_uris(&self, uris: &[&str]) -> Result<Signed> {
        let uris = uris.iter().map(|uri| Ok(SanType::URI((*uri).try_into()?)));
        let uris: Vec<_> = uris.collect::<Result<_>>()?;
        self.sign_params("localhost", |params| params.subject_alt_names.extend(uris))
    }

    fn sign_params(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<Signed> {
        let key = KeyPair::generate()?;
        // An IP address is taken for one.
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        Ok(Signed {
            certificate: pem("CERTIFICATE", params.signed_by(&key, &self.issuer)?.der()),
            key: pem("PRIVATE KEY", key.serialized_der()),
        })
    }
}

fn expire(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(2002, 1, 1);
}

impl Signed {
    /// Writes both into `directory`, as `NAME.pem` and `NAME-key.pem`, in place of what was there.
    pub fn write(&self, directory: &Path, name: &str) -> Result<Identity> {
        let identity = Identity {
            certificate: directory.join(format!("{name}.pem")),
            key: directory.join(format!("{name}-key.pem")),
        };
        for (path, text) in [
            (&identity.certificate, &self.certificate),
            (&identity.key, &self.key),
        ] {
            fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(identity)
    }
}

/// The textual form of RFC 7468: lines of 64 characters.
fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let lines: Vec<_> = lines.collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}
