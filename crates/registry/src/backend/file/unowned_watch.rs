//! A reader's watch of files that nobody holds: look once, then when the kernel tells of them, and from time to time.

use std::{
    ffi::OsString,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    select,
    time::{Instant, sleep_until},
};

use super::{
    Shared, blocking, directory::Directory, followed_directory::FollowedDirectory, notify::Mailbox,
};

/// What can be watched: one file of a directory, or all.
pub(super) trait Looked: Clone + Send + 'static {
    /// What there is to be seen.
    type Seen: Clone + PartialEq + Send + 'static;

    fn directory(&self) -> &Arc<Directory>;

    /// The one file of interest; all when there is none.
    fn only(&self) -> Option<OsString>;

    /// What is there now. Blocking.
    fn look(&self) -> io::Result<Self::Seen>;
}

/// A watch. Holds no task: it lives in the stream that is made of it, and ends with that.
pub(super) struct UnownedWatcher<L: Looked> {
    files: L,
    mailbox: Arc<Mailbox>,
    /// Locked only while a look is taken.
    directory: Arc<Mutex<FollowedDirectory>>,
    /// When to look at everything without a reason.
    sweep: Instant,
    told: Option<L::Seen>,
}

impl<L: Looked> UnownedWatcher<L> {
    pub(super) fn new(shared: &Shared, files: L) -> Self {
        let mailbox = Arc::new(Mailbox::new(files.only()));
        let directory = FollowedDirectory::new(shared, Arc::clone(files.directory()), &mailbox);
        Self {
            files,
            mailbox,
            directory: Arc::new(Mutex::new(directory)),
            sweep: Instant::now(),
            told: None,
        }
    }

    /// What is there: at first as it is, then once it has changed.
    pub(super) async fn next(&mut self) -> io::Result<L::Seen> {
        loop {
            let is_unwatched = match self.told {
                None => true,
                Some(_) => self.cause().await,
            };
            let found = self.look(is_unwatched).await?;
            if self.told.as_ref() != Some(&found) {
                self.told = Some(found.clone());
                return Ok(found);
            }
        }
    }

    /// Waits for a reason to look, and says whether no more word comes.
    async fn cause(&mut self) -> bool {
        select! {
            mail = self.mailbox.receive() => mail.unwatched,
            () = sleep_until(self.sweep) => false,
        }
    }

    async fn look(&mut self, is_unwatched: bool) -> io::Result<L::Seen> {
        let (files, directory) = (self.files.clone(), Arc::clone(&self.directory));
        let (seen, period) = blocking(move || {
            let mut directory = directory.lock().unwrap_or_else(PoisonError::into_inner);
            if is_unwatched {
                directory.follow_anew();
            } else {
                directory.follow();
            }
            Ok((files.look()?, directory.period()))
        })
        .await?;
        self.sweep = Instant::now() + period;
        Ok(seen)
    }
}
