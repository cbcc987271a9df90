//! One subscriber's watch of one directory.

use std::{path::Path, sync::Arc, time::Duration};

use super::{
    file_system,
    layout::FileIdentity,
    lookout::{Lookout, POLL, Polls, SWEEP},
    notify::{Mailbox, Notifier},
};

/// A subscription to word from one directory; ends with the value.
#[derive(Debug)]
pub(super) struct Subscription {
    lookout: Arc<Lookout>,
    mailbox: Arc<Mailbox>,
    watch: Option<Watch>,
    /// While word does not come, or not of all.
    polls: Option<Polls>,
}

#[derive(Debug)]
struct Watch {
    notifier: Arc<Notifier>,
    id: i32,
    directory: FileIdentity,
}

impl Subscription {
    /// A subscription to nothing yet.
    pub(super) fn new(lookout: Arc<Lookout>, mailbox: Arc<Mailbox>) -> Self {
        Self {
            lookout,
            mailbox,
            watch: None,
            polls: None,
        }
    }

    /// How often the subscriber has to look without a reason.
    pub(super) fn period(&self) -> Duration {
        if self.lookout.only_polls() || self.polls.is_some() {
            POLL
        } else {
            SWEEP
        }
    }

    /// Subscribes to the directory that is at `path` now, unless that has been done. Where the kernel cannot tell, it is tried
    /// again each time.
    pub(super) fn follow(&mut self, path: &Path) {
        if self.lookout.only_polls() || self.is_followed(path) {
            return;
        }
        self.end();
        match self.subscribe(path) {
            Ok(()) => {
                self.polls = None;
                self.lookout.is_told();
            }
            Err(why) => self.do_without(why),
        }
    }

    /// Has the subscriber look more often, since it is not told of all.
    pub(super) fn do_without(&mut self, why: String) {
        if self.polls.is_none() {
            self.polls = Some(Lookout::polls(&self.lookout, why));
        }
    }

    /// Subscribes anew at the next [`follow`](Self::follow).
    pub(super) fn end(&mut self) {
        if let Some(watch) = self.watch.take() {
            watch.notifier.remove(watch.id, &self.mailbox);
        }
    }

    fn is_followed(&self, path: &Path) -> bool {
        let at = |path| FileIdentity::at(path).ok().flatten();
        let followed = self.watch.as_ref().map(|watch| watch.directory);
        followed.is_some() && followed == at(path)
    }

    fn subscribe(&mut self, path: &Path) -> Result<(), String> {
        let notifier = self.lookout.notifier()?;
        let failed = |error| format!("no word comes from {}: {error}", path.display());
        let id = notifier
            .add(path, &self.mailbox)
            .map_err(|error| failed(no_watch(&error)))?;
        match FileIdentity::at(path) {
            Ok(Some(directory)) => {
                self.watch = Some(Watch {
                    notifier,
                    id,
                    directory,
                });
            }
            // Gone already: whoever looks makes it again.
            _ => notifier.remove(id, &self.mailbox),
        }
        // What word there is, of what this machine does, is welcome all the same.
        file_system::tells_of_all(path)
    }
}

/// Why a directory could not be watched. There, this code means anything but a full disk.
fn no_watch(error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::StorageFull {
        "this user has no inotify watch left (sysctl fs.inotify.max_user_watches)".into()
    } else {
        error.to_string()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.end();
    }
}
