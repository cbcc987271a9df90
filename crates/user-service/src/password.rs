//! Passwords, kept as Argon2id's hashes (RFC 9106) with a salt each, with the parameters that OWASP asks for at least: 19 MiB
//! and two passes.
//!
//! A hash takes tens of milliseconds of one processor. So it is made on a thread that may block, a few at a time, and only so
//! many wait for their turn.

use std::{num::NonZeroU32, sync::Arc};

use argon2::{Argon2, PasswordHasher, PasswordVerifier, password_hash::phc::PasswordHash};
use tokio::{
    sync::{Semaphore, TryAcquireError},
    task::spawn_blocking,
};

/// How many may wait for each that is being looked at: about a second's work.
const WAITING: usize = 32;

/// Why nothing can be said of a password.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    /// Too many are waiting.
    #[error("too many passwords are being looked at")]
    Busy,
    /// What is kept is no hash, or none can be made.
    #[error("a password cannot be hashed: {0}")]
    Failed(String),
}

/// Makes and compares hashes. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Passwords {
    turns: Arc<Semaphore>,
    places: Arc<Semaphore>,
    /// What a password is compared with where there is no hash, so that the answer takes as long.
    decoy: Arc<str>,
}

impl Passwords {
    /// So many at the same time.
    pub(crate) fn new(parallelism: NonZeroU32) -> Result<Self, PasswordError> {
        let turns = parallelism.get() as usize;
        Ok(Self {
            turns: Arc::new(Semaphore::new(turns)),
            places: Arc::new(Semaphore::new(turns.saturating_mul(WAITING))),
            decoy: hash("nobody's")?.into(),
        })
    }

    /// How a password is kept. Cancellation safe.
    pub(crate) async fn hash(&self, password: String) -> Result<String, PasswordError> {
        self.in_turn(move || hash(&password)).await
    }

    /// Whether it is the password that is kept so; it never is where none is kept, which takes as long. Cancellation safe.
    pub(crate) async fn verify(
        &self,
        password: String,
        kept: Option<String>,
    ) -> Result<bool, PasswordError> {
        let decoy = Arc::clone(&self.decoy);
        self.in_turn(move || {
            let is_same = matches(&password, kept.as_deref().unwrap_or(&decoy))?;
            Ok(is_same && kept.is_some())
        })
        .await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let _place = self.places.try_acquire().map_err(|error| match error {
            TryAcquireError::NoPermits | TryAcquireError::Closed => PasswordError::Busy,
        })?;
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|_| PasswordError::Busy)?;
        // The turn goes with the work: who has given up has not made room before its hash is done.
        let done = spawn_blocking(move || {
            let outcome = work();
            drop(turn);
            outcome
        });
        done.await
            .map_err(|error| PasswordError::Failed(error.to_string()))?
    }
}

fn hash(password: &str) -> Result<String, PasswordError> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(failed)
}

fn matches(password: &str, kept: &str) -> Result<bool, PasswordError> {
    let kept = PasswordHash::new(kept).map_err(|error| PasswordError::Failed(error.to_string()))?;
    match Argon2::default().verify_password(password.as_bytes(), &kept) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: argon2::password_hash::Error) -> PasswordError {
    PasswordError::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_at_a_time() -> Passwords {
        Passwords::new(NonZeroU32::MIN).expect("a decoy")
    }

    #[tokio::test]
    async fn a_password_is_known_by_its_hash_alone() {
        let passwords = one_at_a_time();
        let kept = passwords
            .hash("correct horse".to_owned())
            .await
            .expect("a hash");
        assert!(
            kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{kept}"
        );
        let again = passwords
            .hash("correct horse".to_owned())
            .await
            .expect("a hash");
        assert_ne!(kept, again, "each has a salt of its own");
        let verify = async |password: &str, kept: Option<&String>| {
            let verified = passwords.verify(password.to_owned(), kept.cloned());
            verified.await.expect("an answer")
        };
        assert!(verify("correct horse", Some(&kept)).await);
        assert!(!verify("battery staple", Some(&kept)).await);
        assert!(!verify("correct horse", None).await);
        assert!(!verify("nobody's", None).await);
    }

    #[tokio::test]
    async fn who_finds_no_place_to_wait_is_told_at_once() {
        let passwords = one_at_a_time();
        let turn = passwords.turns.acquire().await.expect("a turn");
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..WAITING {
            let passwords = passwords.clone();
            waiting.spawn(async move { passwords.verify(String::new(), None).await });
        }
        while passwords.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = passwords.verify(String::new(), None).await;
        assert!(matches!(refused, Err(PasswordError::Busy)), "{refused:?}");
        // Who gives up makes room.
        waiting.shutdown().await;
        drop(turn);
        let verified = passwords.verify(String::new(), None).await;
        assert!(!verified.expect("an answer"));
    }
}
