//! Files that are read again: what is in force is the newest of their contents that could be used.
//!
//! Whom to trust and who we are are two things. An authority that is taken out of its file is not trusted any more, whatever is true
//! of our own certificate; and that is shown for as long as there is no better one, even to those who refuse it.

use std::{
    fmt,
    mem::replace,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{Instant, interval, sleep, timeout_at},
};
use tokio_rustls::rustls::{RootCertStore, pki_types::CertificateDer};

use super::{
    CredentialFiles, Credentials, Validity,
    credentials::Identity,
    newest::{Found, Newest},
};

/// How often the files are looked at, when nothing is connected meanwhile.
const LOOK_EVERY: Duration = Duration::from_mins(1);
/// After which files that cannot be used are looked at again: they may be in the middle of being changed.
const MOMENT: Duration = Duration::from_millis(100);
/// How many moments whoever replaces several files may take from the first to the last; while nothing is in force, more.
const MOMENTS: u32 = 5;
const MOMENTS_AT_THE_START: u32 = 10;
/// How long a look may take before whoever connects goes on with what is in force.
const PATIENCE: Duration = Duration::from_secs(5);

/// Files of credentials, and the newest of their contents that could be used.
///
/// They are read by one thread at a time, however many ask, and no lock is held meanwhile. So a disk that hangs takes one thread,
/// and keeps nobody from what is in force.
pub struct Followed {
    files: CredentialFiles,
    known: Mutex<Known>,
    /// Whose turn it is to look.
    turn: Arc<Semaphore>,
    refused: AtomicU64,
}

#[derive(Default)]
struct Known {
    trust: Newest<Option<Vec<u8>>, Arc<RootCertStore>>,
    own: Newest<Own, Arc<Credentials>>,
    in_force: Option<Arc<Credentials>>,
    /// How many looks have begun.
    looks: u64,
    looking: Option<Looking>,
}

/// Our certificate and its key, as written, and who was trusted when they were looked at.
struct Own {
    pem: Option<Identity>,
    trust: Arc<RootCertStore>,
}

impl PartialEq for Own {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.trust, &other.trust) && self.pem == other.pem
    }
}

/// A look under way.
struct Looking {
    began: Instant,
    is_overdue: bool,
}

impl Followed {
    pub(super) fn new(files: CredentialFiles) -> Self {
        Self {
            files,
            known: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
            refused: AtomicU64::new(0),
        }
    }

    /// How often changed files could not be used.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// From when to when our certificate that is in force is valid.
    pub fn validity(&self) -> Option<Validity> {
        self.known().in_force.as_ref()?.validity
    }

    /// What is in force, without looking at the files. While nothing is they are read, once, by the thread that asks.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn at_once(&self) -> Result<Arc<Credentials>, String> {
        if self.known().in_force.is_none() {
            self.read();
            self.tell();
        }
        self.outcome()
    }

    /// What is in force once the files have been looked at. What they hold is taken when it can be used; else what was in force
    /// before still is, which is logged once and counted. That goes for whom to trust by itself, and for our certificate with its key:
    /// an authority that is taken out is not trusted, though our own certificate is of it. As long as nothing has changed it returns the
    /// same.
    ///
    /// What cannot be used is looked at again for half a second, and at the start for a second: of a certificate and its key,
    /// one may be the new one already. A look is waited for until five seconds after it began, which is logged once. Cancellation
    /// safe: a look that has begun is finished.
    ///
    /// # Errors
    /// What is wrong with which file, when nothing has been in force before.
    pub async fn in_force(self: &Arc<Self>) -> Result<Arc<Credentials>, String> {
        self.in_force_within(PATIENCE).await
    }

    /// The same for who has less time: where something is in force, a look is waited for until `patience` after it began.
    ///
    /// # Errors
    /// As [`in_force`](Self::in_force).
    pub async fn in_force_within(
        self: &Arc<Self>,
        patience: Duration,
    ) -> Result<Arc<Credentials>, String> {
        let (looks, began, patience) = {
            let known = self.known();
            let patience = known.in_force.as_ref().map_or(PATIENCE, |_| patience);
            (known.looks, known.begins(), patience)
        };
        let looked = timeout_at(began + patience, self.looked_after(looks));
        if looked.await.is_err() {
            self.overdue(patience);
        }
        self.outcome()
    }

    /// Waits for a look that had not begun when there were so many, of whomever that is.
    async fn looked_after(self: &Arc<Self>, looks: u64) {
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let turn = turn.expect("it is never closed");
        if self.known().has_begun_after(looks) {
            return;
        }
        let own = Arc::clone(self);
        let look = tokio::spawn(async move {
            own.look().await;
            own.known().looking = None;
            drop(turn);
        });
        // Were it to panic, what is in force still would be.
        let _ = look.await;
    }

    async fn look(self: &Arc<Self>) {
        let is_the_start = self.known().in_force.is_none();
        let mut moments = if is_the_start {
            MOMENTS_AT_THE_START
        } else {
            MOMENTS
        };
        loop {
            let own = Arc::clone(self);
            let read = spawn_blocking(move || own.read()).await;
            if read.is_err() || moments == 0 || !self.known().has_news() {
                return self.tell();
            }
            moments -= 1;
            sleep(MOMENT).await;
        }
    }

    /// Reads the files, and may wait for a disk. Who is trusted is settled first, and waits for nothing else.
    fn read(&self) {
        let read = self.files.read_authorities();
        let is_in_force = |pem: &_| self.known().trust.is_made_of(pem);
        let make = |pem: &Option<Vec<u8>>| self.files.trusted(pem.as_deref());
        let found = Found::of(read, is_in_force, make);
        if let Some(trust) = self.take_trust(found) {
            self.read_own(trust);
        }
    }

    /// Who is trusted now.
    fn take_trust(
        &self,
        found: Found<Option<Vec<u8>>, Arc<RootCertStore>>,
    ) -> Option<Arc<RootCertStore>> {
        let mut known = self.known();
        let is_new = known.trust.note(found) && known.put_in_force().is_some();
        let trust = known.trust.in_force().cloned();
        drop(known);
        if is_new {
            self.say_new("authorities");
        }
        trust
    }

    fn read_own(&self, trust: Arc<RootCertStore>) {
        let read = self.files.read_identity();
        let read = read.map(|pem| Own { pem, trust });
        let is_in_force = |own: &_| self.known().own.is_made_of(own);
        let make = |own: &Own| {
            let credentials = self.files.usable(&own.trust, own.pem.as_ref());
            credentials.map(Arc::new)
        };
        let found = Found::of(read, is_in_force, make);
        let mut known = self.known();
        if !known.own.note(found) {
            return;
        }
        let before = known.put_in_force();
        let is_new = |before: Arc<Credentials>| before.certificate() != known.certificate();
        let is_new = before.is_some_and(is_new);
        drop(known);
        if is_new {
            self.say_new("certificate");
        }
    }

    fn say_new(&self, of: &str) {
        tracing::info!(files = ?self.files, of, "new TLS files are in force");
    }

    /// Logs what is wrong, and counts it, once. While nothing is in force whoever asks is told.
    fn tell(&self) {
        let mut known = self.known();
        let wrong = [
            (known.trust.tell(), "authorities"),
            (known.own.tell(), "certificate"),
        ];
        let is_in_force = known.in_force.is_some();
        drop(known);
        for (problem, of) in wrong {
            if let Some(problem) = problem.filter(|_| is_in_force) {
                self.refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    problem,
                    of,
                    "changed TLS files cannot be used; what was in force before still is"
                );
            }
        }
    }

    /// Somebody waits no longer. The look under way may be the next after the one that took too long.
    fn overdue(&self, patience: Duration) {
        let mut known = self.known();
        let looking = known.looking.as_mut();
        let Some(looking) = looking.filter(|looking| looking.began.elapsed() >= patience) else {
            return;
        };
        if !replace(&mut looking.is_overdue, true) {
            tracing::warn!(
                files = ?self.files,
                "TLS files have not been read within {patience:?}; what is in force, if anything, still is"
            );
        }
    }

    fn outcome(&self) -> Result<Arc<Credentials>, String> {
        let known = self.known();
        let problem = || known.trust.problem().or(known.own.problem());
        match &known.in_force {
            Some(in_force) => Ok(Arc::clone(in_force)),
            None => Err(problem().map_or_else(
                || format!("the disk takes too long to read {}", self.files),
                str::to_owned,
            )),
        }
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

impl Known {
    /// Whom to trust now, and the newest certificate that could be used then; what was in force before.
    fn put_in_force(&mut self) -> Option<Arc<Credentials>> {
        let (trust, own) = (self.trust.in_force()?, self.own.in_force()?);
        let now = if Arc::ptr_eq(&own.authorities, trust) {
            Arc::clone(own)
        } else {
            Arc::new(own.trusting(trust))
        };
        self.in_force.replace(now)
    }

    fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.in_force.as_ref()?.certificate()
    }

    /// Whether something is wrong that nobody has been told of.
    fn has_news(&self) -> bool {
        self.trust.untold().is_some() || self.own.untold().is_some()
    }

    /// When the look that is waited for first began, or begins: nobody waits long behind one that hangs.
    fn begins(&self) -> Instant {
        let began = self.looking.as_ref().map(|looking| looking.began);
        began.unwrap_or_else(Instant::now)
    }

    /// Whether a look has begun since there were so many; if none has, one does now.
    fn has_begun_after(&mut self, looks: u64) -> bool {
        if self.looks > looks {
            return true;
        }
        self.looks += 1;
        self.looking = Some(Looking {
            began: Instant::now(),
            is_overdue: false,
        });
        false
    }
}

/// Without what the files hold.
impl fmt::Debug for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Followed").field(&self.files).finish()
    }
}

#[cfg(test)]
mod tests;
