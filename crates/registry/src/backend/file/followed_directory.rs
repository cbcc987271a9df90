//! A directory that is kept there, and that word comes from as long as the kernel can give it.

use std::{sync::Arc, time::Duration};

use super::{Shared, directory::Directory, notify::Mailbox, subscription::Subscription};

/// Whoever follows it looks for itself too, each [`period`](Self::period).
pub(super) struct FollowedDirectory {
    directory: Arc<Directory>,
    subscription: Subscription,
}

impl FollowedDirectory {
    /// Not followed yet; word will go to `mailbox`.
    pub(super) fn new(shared: &Shared, directory: Arc<Directory>, mailbox: &Arc<Mailbox>) -> Self {
        Self {
            directory,
            subscription: shared.subscription(mailbox),
        }
    }

    /// How often to look without a reason.
    pub(super) fn period(&self) -> Duration {
        self.subscription.period()
    }

    /// Makes sure that the directory is there and that word comes from it. Where that cannot be had, it is looked at more
    /// often.
    pub(super) fn follow(&mut self) {
        match self.directory.create() {
            Ok(()) => self.subscription.follow(self.directory.path()),
            Err(error) => {
                let error = self.directory.not_written(error);
                // Subscribed to anew once it can be made sure of.
                self.subscription.end();
                self.subscription.do_without(error.to_string());
            }
        }
    }

    /// Does the same, after no more word comes from the directory that was followed.
    pub(super) fn follow_anew(&mut self) {
        self.subscription.end();
        self.follow();
    }
}
