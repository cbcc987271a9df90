//! A reader's watch of one document: look once, then when the kernel tells of it, and each second.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    select,
    time::{Interval, MissedTickBehavior, interval},
};

use super::{
    SWEEP, Shared, blocking, document::DocumentFile, followed_directory::FollowedDirectory,
    notify::Mailbox,
};
use crate::FoundDocument;

/// A watch. Holds no task: it lives in the stream that is made of it, and ends with that.
pub(super) struct DocumentWatcher {
    file: DocumentFile,
    mailbox: Arc<Mailbox>,
    /// Locked only while a look is taken.
    directory: Arc<Mutex<FollowedDirectory>>,
    sweep: Interval,
    told: Option<FoundDocument>,
}

impl DocumentWatcher {
    pub(super) fn new(shared: &Shared, file: DocumentFile) -> Self {
        let mailbox = Arc::new(Mailbox::new(Some(file.name.clone())));
        let directory = FollowedDirectory::new(shared, Arc::clone(&file.directory), &mailbox);
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        sweep.reset();
        Self {
            file,
            mailbox,
            directory: Arc::new(Mutex::new(directory)),
            sweep,
            told: None,
        }
    }

    /// What is there: at first as it is, then once it has changed.
    pub(super) async fn next(&mut self) -> io::Result<FoundDocument> {
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
            _ = self.sweep.tick() => false,
        }
    }

    async fn look(&self, is_unwatched: bool) -> io::Result<FoundDocument> {
        let (file, directory) = (self.file.clone(), Arc::clone(&self.directory));
        blocking(move || {
            let mut directory = directory.lock().unwrap_or_else(PoisonError::into_inner);
            if is_unwatched {
                directory.follow_anew();
            } else {
                directory.follow();
            }
            file.read()
        })
        .await
    }
}
