//! What is made of credentials, made anew when they change.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{Credentials, Followed};

/// How a `T` is made.
type Make<T> = Box<dyn Fn(&Credentials) -> Result<T, String> + Send + Sync>;

/// What is made of the credentials in force; made once for as long as these are the same.
pub struct Derived<T> {
    credentials: Source,
    make: Make<T>,
    made: Mutex<Option<(Arc<Credentials>, T)>>,
}

enum Source {
    Given(Arc<Credentials>),
    Followed(Arc<Followed>),
}

impl<T: Clone> Derived<T> {
    /// Of credentials that never change.
    pub fn of(
        credentials: Credentials,
        make: impl Fn(&Credentials) -> Result<T, String> + Send + Sync + 'static,
    ) -> Self {
        Self::new(Source::Given(Arc::new(credentials)), Box::new(make))
    }

    /// Of what files hold.
    pub fn following(
        files: Arc<Followed>,
        make: impl Fn(&Credentials) -> Result<T, String> + Send + Sync + 'static,
    ) -> Self {
        Self::new(Source::Followed(files), Box::new(make))
    }

    fn new(credentials: Source, make: Make<T>) -> Self {
        Self {
            credentials,
            make,
            made: Mutex::default(),
        }
    }

    /// What is in force, without looking at files; as [`Followed::at_once`].
    ///
    /// # Errors
    /// What is wrong with which file, when nothing has been in force before.
    pub fn at_once(&self) -> Result<T, String> {
        match &self.credentials {
            Source::Given(credentials) => self.made_of(credentials),
            Source::Followed(files) => self.made_of(&files.at_once()?),
        }
    }

    /// What is in force once files have been looked at; as [`Followed::in_force`].
    ///
    /// # Errors
    /// As [`at_once`](Self::at_once).
    pub async fn in_force(&self) -> Result<T, String> {
        match &self.credentials {
            Source::Given(credentials) => self.made_of(credentials),
            Source::Followed(files) => self.made_of(&files.in_force().await?),
        }
    }

    /// The same for who has less time; as [`Followed::in_force_within`].
    ///
    /// # Errors
    /// As [`at_once`](Self::at_once).
    pub async fn in_force_within(&self, patience: Duration) -> Result<T, String> {
        match &self.credentials {
            Source::Given(credentials) => self.made_of(credentials),
            Source::Followed(files) => self.made_of(&files.in_force_within(patience).await?),
        }
    }

    fn made_of(&self, credentials: &Arc<Credentials>) -> Result<T, String> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, made)) = &*made
            && Arc::ptr_eq(of, credentials)
        {
            return Ok(made.clone());
        }
        let new = (self.make)(credentials)?;
        *made = Some((Arc::clone(credentials), new.clone()));
        Ok(new)
    }
}

/// Without what it is made of.
impl<T> fmt::Debug for Derived<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.credentials {
            Source::Given(_) => f.write_str("Derived"),
            Source::Followed(files) => f.debug_tuple("Derived").field(files).finish(),
        }
    }
}
