//! Whose certificate a server has to show, where that is said by a URI and not by a host's name.

use std::sync::Arc;

use registry::tls::SpiffeId;
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

/// Takes the certificates of one service: those that an authority vouches for and that carry its SPIFFE ID (X509-SVID,
/// section 5). Hosts' names count for nothing.
#[derive(Debug)]
pub(super) struct PeerVerifier {
    peer: SpiffeId,
    authorities: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

/// The certificate is another's.
#[derive(Debug, thiserror::Error)]
#[error("it is for {presented} and not for {wanted}")]
pub(super) struct WrongIdentity {
    pub(super) wanted: SpiffeId,
    pub(super) presented: String,
}

impl PeerVerifier {
    pub(super) fn new(
        peer: SpiffeId,
        authorities: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        Self {
            peer,
            authorities,
            provider,
        }
    }

    fn check_identity(&self, certificate: &CertificateDer<'_>) -> Result<(), WrongIdentity> {
        let presented = match SpiffeId::of(certificate) {
            Ok(presented) if presented == self.peer => return Ok(()),
            Ok(presented) => presented.to_string(),
            Err(invalid) => format!("nobody ({invalid})"),
        };
        Err(WrongIdentity {
            wanted: self.peer.clone(),
            presented,
        })
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _host: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // It refuses the certificate of an authority, too: nobody is called by that.
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(certificate)?,
            &self.authorities,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        self.check_identity(certificate).map_err(|wrong| {
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(wrong))))
        })?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
