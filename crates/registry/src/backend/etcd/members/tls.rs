//! TLS towards the members: its files, which are read again for each connection, and the handshake.

mod failure;
mod noting;

use std::{
    fmt, fs,
    path::Path,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::spawn_blocking,
    time::interval,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

pub use self::failure::TlsFailure;
pub(super) use self::noting::Noting;
use crate::{Address, backend::etcd::EtcdTls};

/// How often the files are looked at, when nothing is connected meanwhile.
const LOOK_EVERY: Duration = Duration::from_mins(1);
/// HTTP/2 in a TLS handshake (RFC 9113, section 3.2).
const ALPN: &[u8] = b"h2";

/// TLS as its files have it: what is in force is the newest of their contents that could be used.
pub(in super::super) struct Tls {
    files: EtcdTls,
    known: Mutex<Known>,
    refused: AtomicU64,
}

/// What the files held when they were read last, and what is in force.
#[derive(Default)]
struct Known {
    read: Option<Result<Contents, String>>,
    in_force: Option<InForce>,
}

/// The files' contents: the authorities, and the certificate with its key.
#[derive(PartialEq)]
struct Contents {
    authorities: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

#[derive(Clone)]
struct InForce {
    config: Arc<ClientConfig>,
    /// The certificate that we show.
    ours: Option<CertificateDer<'static>>,
}

impl Tls {
    pub(super) fn new(files: EtcdTls) -> Self {
        Self {
            files,
            known: Mutex::default(),
            refused: AtomicU64::new(0),
        }
    }

    /// How often changed files could not be used.
    pub(in super::super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Looks whether the files have changed, and takes what they hold when that can be used.
    ///
    /// # Errors
    /// When it cannot, and nothing has been in force before.
    fn look(&self) -> Result<InForce, String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // With the lock held: whoever has read older files must not be the last to put them in force.
        let read = Contents::read(&self.files);
        if known.read.as_ref() != Some(&read) || known.in_force.is_none() {
            let usable = match &read {
                Ok(contents) => contents.to_config(&self.files),
                Err(problem) => Err(problem.clone()),
            };
            known.read = Some(read);
            match usable {
                Ok(usable) => {
                    if known.in_force.is_some() {
                        tracing::info!(files = ?self.files, "new TLS files are in force");
                    }
                    known.in_force = Some(usable);
                }
                Err(problem) if known.in_force.is_none() => return Err(problem),
                Err(problem) => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(
                        problem,
                        "changed TLS files cannot be used; what was in force before still is"
                    );
                }
            }
        }
        Ok(known.in_force.clone().expect("it was just put there"))
    }

    /// Looks every minute, for ever: whoever changes a file for one that cannot be used hears of it while what was in
    /// force before still is.
    pub(super) async fn look_on(self: Arc<Self>) {
        let mut minutes = interval(LOOK_EVERY);
        loop {
            minutes.tick().await;
            // What is wrong has been logged, or is told to whoever connects.
            let _ = self.in_force().await;
        }
    }

    /// Looks, on a thread that may wait for a disk.
    async fn in_force(self: &Arc<Self>) -> Result<InForce, TlsFailure> {
        let tls = Arc::clone(self);
        let looked = spawn_blocking(move || tls.look()).await;
        looked
            .map_err(|error| error.to_string())
            .flatten()
            .map_err(TlsFailure::Unusable)
    }

    /// Secures a connection to `member`. Why the member ends it later, if that is for TLS, is noted in `ended`: with TLS
    /// 1.3 our certificate is looked at when the handshake is over for us.
    pub(super) async fn handshake<T>(
        self: &Arc<Self>,
        socket: T,
        member: &Address,
        ended: Arc<OnceLock<TlsFailure>>,
    ) -> Result<Noting<T>, TlsFailure>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let InForce { config, ours } = self.in_force().await?;
        let name = server_name(self.files.server_name.as_deref(), member)?;
        let connected = TlsConnector::from(config).connect(name.clone(), socket);
        let stream = connected
            .await
            .map_err(|error| TlsFailure::of(&error, &name, ours.as_ref()))?;
        match stream.get_ref().1.alpn_protocol() {
            Some(ALPN) => Ok(Noting::new(stream, name, ours, ended)),
            _ => Err(TlsFailure::NoHttp2),
        }
    }
}

/// Without what the files hold.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.files).finish()
    }
}

impl Contents {
    fn read(files: &EtcdTls) -> Result<Self, String> {
        let read = |path: &Path| {
            fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
        };
        Ok(Self {
            authorities: files.authorities.as_deref().map(read).transpose()?,
            identity: match &files.identity {
                Some((certificate, key)) => Some((read(certificate)?, read(key)?)),
                None => None,
            },
        })
    }

    fn to_config(&self, files: &EtcdTls) -> Result<InForce, String> {
        let in_file = |path: &Path, problem: String| format!("{}: {problem}", path.display());
        let roots = match (&self.authorities, &files.authorities) {
            (Some(pem), Some(path)) => {
                authorities(pem).map_err(|problem| in_file(path, problem))?
            }
            _ => system_authorities()?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let (mut config, ours) = match (&self.identity, &files.identity) {
            (Some((certificate, key)), Some((path, key_path))) => {
                let chain = certificates(certificate).map_err(|problem| in_file(path, problem))?;
                // What the parser says of a key is not repeated: it might quote it.
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|_| in_file(key_path, "there is no private key".into()))?;
                let ours = chain.first().cloned();
                let config = builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| in_file(path, error.to_string()))?;
                (config, ours)
            }
            _ => (builder.with_no_client_auth(), None),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(InForce {
            config: Arc::new(config),
            ours,
        })
    }
}

fn server_name(
    configured: Option<&str>,
    member: &Address,
) -> Result<ServerName<'static>, TlsFailure> {
    let name = configured.or(member.host()).unwrap_or_default();
    ServerName::try_from(name.to_owned()).map_err(|_| {
        let text = format!("{name:?} is no name that a certificate could be for");
        TlsFailure::Unusable(text)
    })
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err("there is no certificate".into()),
        Ok(all) => Ok(all),
        Err(error) => Err(error.to_string()),
    }
}

fn authorities(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

/// Those that can be used: every system has some odd ones.
fn system_authorities() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first();
        let why = why.map_or_else(String::new, |error| format!(" ({error})"));
        return Err(format!(
            "the system has no certificate authorities{why}; name a file that has some"
        ));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use testkit::tls::Authority;

    use super::{Arc, EtcdTls, LOOK_EVERY, Tls, fs};

    #[tokio::test(start_paused = true)]
    async fn a_file_that_becomes_unusable_is_noticed_within_a_minute_and_counted_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("ca.pem");
        let authority = Authority::new().expect("an authority");
        fs::write(&file, authority.certificate()).expect("it is written");
        let tls = Arc::new(Tls::new(EtcdTls::new().with_authorities(&file)));
        tls.in_force().await.expect("it can be used");
        let looking = tokio::spawn(Arc::clone(&tls).look_on());
        let minutes = async |count| tokio::time::sleep(LOOK_EVERY * count).await;
        minutes(2).await;
        assert_eq!(tls.refused(), 0);
        fs::write(&file, "no certificate").expect("it is written");
        minutes(5).await;
        assert_eq!(tls.refused(), 1);
        fs::remove_file(&file).expect("it is removed");
        minutes(5).await;
        assert_eq!(tls.refused(), 2);
        tls.in_force().await.expect("what was in force still is");
        looking.abort();
    }
}
