//! Files that are read again: what is in force is the newest of their contents that could be used.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::spawn_blocking,
    time::{interval, sleep},
};

use super::{Credentials, InvalidCredentials, Pem, SpiffeId};

/// How often the files are looked at, when nothing is connected meanwhile.
const LOOK_EVERY: Duration = Duration::from_mins(1);
/// What whoever replaces several files may take from the first to the last.
const MOMENT: Duration = Duration::from_millis(100);

/// Where credentials are, in PEM.
///
/// ```
/// use registry::tls::CredentialFiles;
/// let files = CredentialFiles::new()
///     .with_authorities("/etc/certs/ca.pem")
///     .with_identity("/etc/certs/greeter.pem", "/etc/certs/greeter-key.pem")
///     .with_spiffe_id("spiffe://example.org/greeter".parse()?);
/// // They are read when they are followed.
/// assert!(files.follow().look().unwrap_err().contains("/etc/certs/ca.pem"));
/// # Ok::<(), registry::tls::InvalidSpiffeId>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CredentialFiles {
    authorities: Option<PathBuf>,
    /// The certificate's file, and its key's.
    identity: Option<(PathBuf, PathBuf)>,
    spiffe_id: Option<SpiffeId>,
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

    /// Whom our certificate has to be for; one that is for somebody else cannot be used.
    pub fn with_spiffe_id(mut self, id: SpiffeId) -> Self {
        self.spiffe_id = Some(id);
        self
    }

    /// Follows them; nothing is read yet. Those who share what is returned read once for all of them.
    pub fn follow(self) -> Arc<Followed> {
        Arc::new(Followed {
            files: self,
            known: Mutex::default(),
            refused: AtomicU64::new(0),
        })
    }

    fn read(&self) -> Result<Pem, String> {
        let read = |path: &Path| {
            fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
        };
        Ok(Pem {
            authorities: self.authorities.as_deref().map(read).transpose()?,
            identity: match &self.identity {
                Some((certificate, key)) => Some((read(certificate)?, read(key)?)),
                None => None,
            },
        })
    }

    fn usable(&self, read: &Result<Pem, String>) -> Result<Credentials, String> {
        let pem = read.as_ref().map_err(String::clone)?;
        let credentials = Credentials::from_pem(pem).map_err(|invalid| self.in_file(&invalid))?;
        if let (Some(wanted), Some((file, _))) = (&self.spiffe_id, &self.identity)
            && let Some(certificate) = credentials.certificate()
        {
            let presented = SpiffeId::of(certificate)
                .map_err(|invalid| format!("{}: {invalid}", file.display()))?;
            if presented != *wanted {
                let file = file.display();
                return Err(format!("{file} is for {presented} and not for {wanted}"));
            }
        }
        Ok(credentials)
    }

    /// What is wrong, with the file that it is wrong in.
    fn in_file(&self, invalid: &InvalidCredentials) -> String {
        let identity = self.identity.as_ref();
        let file = match invalid {
            InvalidCredentials::Authorities(_) => self.authorities.as_ref(),
            InvalidCredentials::NoSystemAuthorities(_) => None,
            InvalidCredentials::Certificate(_) => identity.map(|(certificate, _)| certificate),
            InvalidCredentials::Key => identity.map(|(_, key)| key),
        };
        file.map_or_else(
            || invalid.to_string(),
            |file| format!("{}: {invalid}", file.display()),
        )
    }
}

/// Files of credentials, and the newest of their contents that could be used.
pub struct Followed {
    files: CredentialFiles,
    known: Mutex<Known>,
    refused: AtomicU64,
}

/// What the files held when they were read last, and what is in force.
#[derive(Default)]
struct Known {
    read: Option<Result<Pem, String>>,
    in_force: Option<Arc<Credentials>>,
}

impl Known {
    /// What is in force, when the files hold what they held before.
    fn unchanged(&self, read: &Result<Pem, String>) -> Option<Arc<Credentials>> {
        let is_the_same = self.read.as_ref() == Some(read);
        self.in_force.clone().filter(|_| is_the_same)
    }
}

impl Followed {
    /// How often changed files could not be used.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Looks whether the files have changed, and takes what they hold when that can be used; else what was in force before
    /// still is, which is logged once and counted. It reads files, and may wait for a disk. As long as nothing has changed it
    /// returns the same.
    ///
    /// # Errors
    /// What is wrong with which file, when nothing has been in force before.
    pub fn look(&self) -> Result<Arc<Credentials>, String> {
        let mut known = self.known();
        // With the lock held: whoever has read older files must not be the last to put them in force.
        let read = self.files.read();
        if let Some(in_force) = known.unchanged(&read) {
            return Ok(in_force);
        }
        let usable = self.files.usable(&read);
        known.read = Some(read);
        match (usable, &known.in_force) {
            (Ok(usable), before) => {
                if before.is_some() {
                    tracing::info!(files = ?self.files, "new TLS files are in force");
                }
                let usable = Arc::new(usable);
                known.in_force = Some(Arc::clone(&usable));
                Ok(usable)
            }
            (Err(problem), None) => Err(problem),
            (Err(problem), Some(in_force)) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    problem,
                    "changed TLS files cannot be used; what was in force before still is"
                );
                Ok(Arc::clone(in_force))
            }
        }
    }

    /// Looks, on a thread that may wait for a disk; once more after a moment where what has changed cannot be used: of a
    /// certificate and its key, one may be the new one already.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    pub async fn in_force(self: &Arc<Self>) -> Result<Arc<Credentials>, String> {
        if self.blocking(Self::is_half_done).await? {
            sleep(MOMENT).await;
        }
        self.blocking(Self::look).await?
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        does: fn(&Self) -> T,
    ) -> Result<T, String> {
        let own = Arc::clone(self);
        let done = spawn_blocking(move || does(&own)).await;
        done.map_err(|error| error.to_string())
    }

    /// Whether files that could be used have changed to what cannot be.
    fn is_half_done(&self) -> bool {
        let known = self.known();
        let read = self.files.read();
        known.in_force.is_some()
            && known.unchanged(&read).is_none()
            && self.files.usable(&read).is_err()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks every minute, for ever: whoever changes a file for one that cannot be used hears of it while what was in
    /// force before still is.
    pub async fn look_on(self: Arc<Self>) {
        let mut minutes = interval(LOOK_EVERY);
        loop {
            minutes.tick().await;
            // What is wrong has been logged, or is told to whoever connects.
            let _ = self.in_force().await;
        }
    }
}

/// Without what the files hold.
impl fmt::Debug for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Followed").field(&self.files).finish()
    }
}

#[cfg(test)]
mod tests {
    use testkit::tls::Authority;

    use super::{Arc, CredentialFiles, LOOK_EVERY, fs};

    #[tokio::test(start_paused = true)]
    async fn a_file_that_becomes_unusable_is_noticed_within_a_minute_and_counted_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("ca.pem");
        let authority = Authority::new().expect("an authority");
        fs::write(&file, authority.certificate()).expect("it is written");
        let files = CredentialFiles::new().with_authorities(&file).follow();
        let first = files.in_force().await.expect("it can be used");
        let looking = tokio::spawn(Arc::clone(&files).look_on());
        let minutes = async |count| tokio::time::sleep(LOOK_EVERY * count).await;
        minutes(2).await;
        assert_eq!(files.refused(), 0);
        fs::write(&file, "no certificate").expect("it is written");
        minutes(5).await;
        assert_eq!(files.refused(), 1);
        fs::remove_file(&file).expect("it is removed");
        minutes(5).await;
        assert_eq!(files.refused(), 2);
        let still = files.in_force().await.expect("what was in force still is");
        assert!(Arc::ptr_eq(&first, &still));
        looking.abort();
    }

    #[test]
    fn a_certificate_for_somebody_else_cannot_be_used_and_takes_nothing_away() {
        let directory = tempfile::tempdir().expect("a directory");
        let authority = Authority::new().expect("an authority");
        let ca = directory.path().join("ca.pem");
        fs::write(&ca, authority.certificate()).expect("it is written");
        let show = |id: &str| {
            let signed = authority.sign_spiffe(id).expect("a certificate");
            signed
                .write(directory.path(), "own")
                .expect("it is written")
        };
        let own = show("spiffe://example.org/basket");
        let files = CredentialFiles::new()
            .with_authorities(ca)
            .with_identity(own.certificate, own.key)
            .with_spiffe_id("spiffe://example.org/greeter".parse().expect("an id"))
            .follow();
        let refusal = files.look().expect_err("it is somebody else's");
        let told =
            "own.pem is for spiffe://example.org/basket and not for spiffe://example.org/greeter";
        assert!(refusal.ends_with(told), "{refusal}");

        show("spiffe://example.org/greeter");
        let ours = files.look().expect("it is ours");
        show("spiffe://example.org/basket");
        assert!(Arc::ptr_eq(
            &ours,
            &files.look().expect("what was in force")
        ));
        assert_eq!(files.refused(), 1);
        show("spiffe://example.org/greeter");
        assert!(!Arc::ptr_eq(&ours, &files.look().expect("the new one")));
    }
}
