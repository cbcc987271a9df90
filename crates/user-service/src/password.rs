//! Passwords, kept as Argon2id's hashes (RFC 9106) with a salt each, with the parameters that OWASP asks for at least: 19 MiB
//! and two passes. One that is kept with others, from before they were changed, is hashed anew when its owner is known by it: until then
//! the time of an answer tells it from a name that nobody has.
//!
//! A hash takes tens of milliseconds of one processor. So it is made on a thread that may block, a few at a time, and only so
//! many wait for their turn.

use std::{num::NonZeroU32, sync::Arc};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version,
    password_hash::phc::PasswordHash,
};
use tokio::{
    sync::{Semaphore, TryAcquireError},
    task::spawn_blocking,
};

/// KiB of memory, passes, lanes and bytes of a hash.
const PARAMETERS: (u32, u32, u32, usize) = (19 * 1024, 2, 1, 32);

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

/// What has come of a password.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is another, or none is kept.
    Wrong,
    /// It is the one that is kept.
    Right,
    /// The same, and this is how it is to be kept from now on.
    Outdated(String),
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
    ) -> Result<Verdict, PasswordError> {
        let decoy = Arc::clone(&self.decoy);
        self.in_turn(move || {
            let found = parsed(kept.as_deref().unwrap_or(&decoy))?;
            let is_same = matches(&password, &found)?;
            if !is_same || kept.is_none() {
                return Ok(Verdict::Wrong);
            }
            if is_as_today(&found)? {
                return Ok(Verdict::Right);
            }
            Ok(Verdict::Outdated(hash(&password)?))
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
    let hash = hasher()?.hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(failed)
}

fn hasher() -> Result<Argon2<'static>, PasswordError> {
    let (memory, passes, lanes, length) = PARAMETERS;
    let parameters = Params::new(memory, passes, lanes, Some(length));
    let parameters = parameters.map_err(|error| PasswordError::Failed(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters))
}

fn parsed(kept: &str) -> Result<PasswordHash, PasswordError> {
    PasswordHash::new(kept).map_err(|error| PasswordError::Failed(error.to_string()))
}

/// By the parameters of the hash itself.
fn matches(password: &str, kept: &PasswordHash) -> Result<bool, PasswordError> {
    match hasher()?.verify_password(password.as_bytes(), kept) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// Whether it would be made in the same way now.
fn is_as_today(kept: &PasswordHash) -> Result<bool, PasswordError> {
    let parameters = Params::try_from(kept).map_err(failed)?;
    let its = (
        parameters.m_cost(),
        parameters.t_cost(),
        parameters.p_cost(),
        parameters.output_len().unwrap_or_default(),
    );
    Ok(its == PARAMETERS
        && kept.algorithm == Algorithm::Argon2id.ident()
        && kept.version == Some(Version::V0x13.into()))
}

fn failed(error: argon2::password_hash::Error) -> PasswordError {
    PasswordError::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::{
        Verdict::{Right, Wrong},
        *,
    };

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
        assert_eq!(verify("correct horse", Some(&kept)).await, Right);
        assert_eq!(verify("battery staple", Some(&kept)).await, Wrong);
        assert_eq!(verify("correct horse", None).await, Wrong);
        assert_eq!(verify("nobody's", None).await, Wrong);
    }

    #[tokio::test]
    async fn a_hash_that_would_be_made_otherwise_now_is_made_anew() {
        let passwords = one_at_a_time();
        let fewer = |algorithm, memory, passes| {
            let parameters = Params::new(memory, passes, 1, None).expect("parameters");
            let hasher = Argon2::new(algorithm, Version::V0x13, parameters);
            hasher
                .hash_password(b"correct horse")
                .expect("a hash")
                .to_string()
        };
        let verify = async |password: &str, kept: &String| {
            let verified = passwords.verify(password.to_owned(), Some(kept.clone()));
            verified.await.expect("an answer")
        };
        for outdated in [
            fewer(Algorithm::Argon2id, 8 * 1024, 2),
            fewer(Algorithm::Argon2id, 19 * 1024, 1),
            fewer(Algorithm::Argon2i, 19 * 1024, 2),
        ] {
            assert_eq!(verify("battery staple", &outdated).await, Wrong);
            let Verdict::Outdated(anew) = verify("correct horse", &outdated).await else {
                panic!("{outdated} is not as today's")
            };
            assert_eq!(verify("correct horse", &anew).await, Right);
        }
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
        assert_eq!(verified.expect("an answer"), Wrong);
    }
}
