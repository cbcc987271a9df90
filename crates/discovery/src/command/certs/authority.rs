//! The authority: made or read, and what it signs.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use humantime::format_rfc3339_seconds;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use registry::{ServiceName, tls::TrustDomain};
use x509_parser::{extensions::GeneralName, parse_x509_certificate, prelude::X509Certificate};

use super::{
    files::{Pair, Read},
    pem,
    subject::Subject,
};

/// A certificate is valid from before it was made: clocks differ.
const CLOCKS_DIFFER: Duration = Duration::from_mins(5);

/// A certificate authority that signs whatever it is asked to.
pub(super) struct Authority {
    domain: TrustDomain,
    certificate: String,
    until: SystemTime,
    issuer: Issuer<'static, KeyPair>,
    /// Its name, as what it signs has it.
    name: Vec<u8>,
}

/// A certificate and its key, in PEM.
pub(super) struct Signed {
    pub(super) certificate: String,
    pub(super) key: String,
    pub(super) until: SystemTime,
}

impl Authority {
    /// One with a key of its own.
    pub(super) fn new(domain: TrustDomain, now: SystemTime, valid_for: Duration) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        let name = format!("development authority of {domain}");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![SanType::URI(domain.id().as_str().try_into()?)];
        let until = within(&mut params, now, now + valid_for);
        let certificate = params.self_signed(&key)?;
        let certificate = pem::encoded(pem::CERTIFICATE, certificate.der());
        Self::of(domain, certificate, until, key)
    }

    /// The one that is there, if any is.
    pub(super) fn read(pair: &Pair) -> Result<Option<Self>> {
        let Some(Read { certificate, key }) = pair.read()? else {
            return Ok(None);
        };
        // What the library says of a key is not repeated: it might quote it.
        let parsed = pem::decoded(&key).and_then(|der| KeyPair::try_from(der).ok());
        let key = parsed.with_context(|| {
            let path = pair.key.display();
            format!("{path} has no private key that can be used")
        })?;
        let (domain, until) = Facts::of(&certificate)
            .and_then(|facts| facts.of_authority(&key))
            .with_context(|| pair.certificate.display().to_string())?;
        Self::of(domain, certificate, until, key).map(Some)
    }

    fn of(
        domain: TrustDomain,
        certificate: String,
        until: SystemTime,
        key: KeyPair,
    ) -> Result<Self> {
        let name = Facts::of(&certificate)?.subject;
        let der = pem::decoded(&certificate).context("is no certificate in PEM")?;
        let issuer = Issuer::from_ca_cert_der(&der.into(), key)?;
        Ok(Self {
            domain,
            certificate,
            until,
            issuer,
            name,
        })
    }

    /// Whether it may sign now, for `domain` where one is asked for.
    pub(super) fn check(&self, now: SystemTime, domain: Option<&TrustDomain>) -> Result<()> {
        if let Some(domain) = domain.filter(|domain| **domain != self.domain) {
            let own = &self.domain;
            bail!(
                "is the authority of {own} and not of {domain}; leave --domain out, or name another directory"
            );
        }
        ensure!(
            now < self.until,
            "has expired at {}; remove it with its key, to have a new one made that everybody has to be told of",
            format_rfc3339_seconds(self.until)
        );
        Ok(())
    }

    pub(super) fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    pub(super) fn certificate(&self) -> &str {
        &self.certificate
    }

    pub(super) fn key(&self) -> String {
        pem::encoded(pem::KEY, self.issuer.key().serialized_der())
    }

    pub(super) fn until(&self) -> SystemTime {
        self.until
    }

    /// Whether that is a certificate for the service which this authority, or one before it of its name, has signed.
    pub(super) fn has_signed(&self, there: &Read, service: &ServiceName) -> bool {
        let identity = self.domain.identity(service);
        Facts::of(&there.certificate)
            .is_ok_and(|facts| facts.issuer == self.name && facts.identities == [identity.as_str()])
    }

    /// A certificate for the service to show as a server and as a client (X.509-SVID: one URI, and no authority), which is
    /// valid no longer than the authority is.
    pub(super) fn sign(
        &self,
        subject: &Subject,
        now: SystemTime,
        valid_for: Duration,
    ) -> Result<Signed> {
        let Subject {
            service,
            dns,
            addresses,
        } = subject;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, service.as_str());
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let identity = self.domain.identity(service);
        params.subject_alt_names = vec![SanType::URI(identity.as_str().try_into()?)];
        for name in dns {
            let name = SanType::DnsName(name.as_str().try_into()?);
            params.subject_alt_names.push(name);
        }
        let addresses = addresses.iter().copied().map(SanType::IpAddress);
        params.subject_alt_names.extend(addresses);
        let until = within(&mut params, now, self.until.min(now + valid_for));
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Signed {
            certificate: pem::encoded(pem::CERTIFICATE, certificate.der()),
            key: pem::encoded(pem::KEY, key.serialized_der()),
            until,
        })
    }
}

/// Has a certificate be valid until then, to the second.
fn within(params: &mut CertificateParams, now: SystemTime, until: SystemTime) -> SystemTime {
    params.not_before = (now - CLOCKS_DIFFER).into();
    params.not_after = until.into();
    until
}

/// What is read of a certificate.
struct Facts {
    subject: Vec<u8>,
    issuer: Vec<u8>,
    public_key: Vec<u8>,
    is_authority: bool,
    identities: Vec<String>,
    until: SystemTime,
}

impl Facts {
    fn of(certificate: &str) -> Result<Self> {
        let none = "is no certificate in PEM";
        let der = pem::decoded(certificate).context(none)?;
        let (_, certificate) = parse_x509_certificate(&der).context(none)?;
        let until = certificate.validity().not_after.to_datetime();
        Ok(Self {
            subject: certificate.subject().as_raw().to_vec(),
            issuer: certificate.issuer().as_raw().to_vec(),
            public_key: certificate.public_key().raw.to_vec(),
            is_authority: certificate.is_ca(),
            identities: identities(&certificate),
            until: until.into(),
        })
    }

    /// Whose authority it is, and until when, if the key is its.
    fn of_authority(&self, key: &KeyPair) -> Result<(TrustDomain, SystemTime)> {
        ensure!(
            self.is_authority,
            "is the certificate of no authority; name another directory"
        );
        ensure!(
            self.public_key == key.subject_public_key_info(),
            "and the key beside it are not of one another"
        );
        let [identity] = &self.identities[..] else {
            bail!("names no trust domain (spiffe://DOMAIN); name another directory");
        };
        let domain = identity.strip_prefix("spiffe://").unwrap_or_default();
        Ok((domain.parse()?, self.until))
    }
}

fn identities(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = names.value.general_names.iter();
    let uris = names.filter_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    uris.collect()
}
