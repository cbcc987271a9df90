//! Files that are read again: what is in force is the newest of their contents that could be used.

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

use super::{CredentialFiles, Credentials, Pem, Validity};

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
    in_force: Option<InForce>,
    /// The newest contents, when they could not be used.
    unusable: Option<Unusable>,
    /// How many looks have begun.
    looks: u64,
    looking: Option<Looking>,
}

struct InForce {
    read: Pem,
    credentials: Arc<Credentials>,
}

/// Contents, where they could be read at all, and what is wrong with them.
#[derive(Clone, PartialEq)]
struct Unusable {
    read: Option<Pem>,
    problem: String,
}

/// A look under way.
struct Looking {
    began: Instant,
    is_overdue: bool,
}

/// What a look has found.
enum Found {
    /// What is in force.
    Same,
    Usable(InForce),
    Unusable(Unusable),
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
        let known = self.known();
        known.in_force.as_ref()?.credentials.validity
    }

    /// What is in force, without looking at the files. While nothing is they are read, once, by the thread that asks.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn at_once(&self) -> Result<Arc<Credentials>, String> {
        if self.known().in_force.is_none() {
            self.conclude(self.find());
        }
        self.outcome()
    }

    /// What is in force once the files have been looked at. What they hold is taken when it can be used; else what was in force
    /// before still is, which is logged once and counted. As long as nothing has changed it returns the same.
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
            let Ok(found) = spawn_blocking(move || own.find()).await else {
                return;
            };
            if moments == 0 || !self.is_news(&found) {
                return self.conclude(found);
            }
            moments -= 1;
            sleep(MOMENT).await;
        }
    }

    /// Reads the files, and may wait for a disk.
    fn find(&self) -> Found {
        let unusable = |read, problem| Found::Unusable(Unusable { read, problem });
        let read = match self.files.read() {
            Ok(read) => read,
            Err(problem) => return unusable(None, problem),
        };
        if self.known().is_in_force(&read) {
            return Found::Same;
        }
        match self.files.usable(&read) {
            Ok(credentials) => Found::Usable(InForce {
                read,
                credentials: Arc::new(credentials),
            }),
            Err(problem) => unusable(Some(read), problem),
        }
    }

    /// Whether that cannot be used, and nobody knows yet.
    fn is_news(&self, found: &Found) -> bool {
        matches!(found, Found::Unusable(unusable) if self.known().unusable.as_ref() != Some(unusable))
    }

    fn conclude(&self, found: Found) {
        let is_news = self.is_news(&found);
        let mut known = self.known();
        match found {
            Found::Same => known.unusable = None,
            Found::Usable(new) => {
                known.unusable = None;
                if known.in_force.replace(new).is_some() {
                    tracing::info!(files = ?self.files, "new TLS files are in force");
                }
            }
            Found::Unusable(unusable) => {
                if is_news && known.in_force.is_some() {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(
                        problem = unusable.problem,
                        "changed TLS files cannot be used; what was in force before still is"
                    );
                }
                known.unusable = Some(unusable);
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
        match (&known.in_force, &known.unusable) {
            (Some(in_force), _) => Ok(Arc::clone(&in_force.credentials)),
            (None, Some(unusable)) => Err(unusable.problem.clone()),
            (None, None) => Err(format!("the disk takes too long to read {}", self.files)),
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
    fn is_in_force(&self, read: &Pem) -> bool {
        let in_force = self.in_force.as_ref();
        in_force.is_some_and(|in_force| in_force.read == *read)
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
