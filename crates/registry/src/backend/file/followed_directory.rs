//! A directory that is kept there, and that word comes from as long as the kernel can give it.

use std::{mem, sync::Arc};

use super::{
    Shared,
    directory::Directory,
    notify::{Mailbox, Subscription},
};

/// Whoever follows it looks for itself each second too.
pub(super) struct FollowedDirectory {
    directory: Arc<Directory>,
    subscription: Subscription,
    has_complained: bool,
}

impl FollowedDirectory {
    /// Not followed yet; word will go to `mailbox`.
    pub(super) fn new(shared: &Shared, directory: Arc<Directory>, mailbox: &Arc<Mailbox>) -> Self {
        Self {
            directory,
            subscription: Subscription::new(shared.notifier(), Arc::clone(mailbox)),
            has_complained: false,
        }
    }

    /// Makes sure that the directory is there and that word comes from it. Where that cannot be had, the sweeps must do.
    pub(super) fn follow(&mut self) {
        let path = self.directory.path();
        let followed = self
            .directory
            .create()
            .and_then(|()| self.subscription.follow(path));
        match followed {
            Ok(()) => self.has_complained = false,
            Err(error) => {
                if !mem::replace(&mut self.has_complained, true) {
                    tracing::warn!(path = %path.display(), %error, "cannot be told of changes; looking each second");
                }
            }
        }
    }

    /// Does the same, after no more word comes from the directory that was followed.
    pub(super) fn follow_anew(&mut self) {
        self.subscription.end();
        self.follow();
    }
}
