//! How a store learns of changes: from the kernel, or, where that cannot tell, by looking more often.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use nix::libc::EMFILE;

use super::{file_system, lock, notify::Notifier};

/// How often everything is looked at without a reason, in case that word of a change was missed.
pub(super) const SWEEP: Duration = Duration::from_secs(1);
/// How often, where no word comes.
pub(super) const POLL: Duration = Duration::from_millis(200);

/// How a [`FileStore`](super::FileStore) learns of what others change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Watching {
    /// The kernel tells of each change, within milliseconds; all is looked at each second besides.
    Events,
    /// The kernel does not tell, or not of all: all is looked at five times a second. A change is seen 200 ms later at most,
    /// and as much later as the file system itself takes to show it.
    Polling {
        /// Why.
        why: String,
    },
}

/// What the watches of a store share.
#[derive(Debug)]
pub(super) struct Lookout {
    root: PathBuf,
    only_polls: bool,
    notifier: Mutex<Weak<Notifier>>,
    polling: Mutex<Polling>,
}

/// Those that are not told of all.
#[derive(Debug, Default)]
struct Polling {
    count: usize,
    /// What has been said of it.
    said: Option<String>,
}

/// One that is not told of all; ends with the value.
#[derive(Debug)]
pub(super) struct Polls(Arc<Lookout>);

impl Lookout {
    /// For the registry in `root`; one that only polls asks the kernel nothing.
    pub(super) fn new(root: PathBuf, only_polls: bool) -> Self {
        Self {
            root,
            only_polls,
            notifier: Mutex::default(),
            polling: Mutex::default(),
        }
    }

    pub(super) fn only_polls(&self) -> bool {
        self.only_polls
    }

    pub(super) fn watching(&self) -> Watching {
        if self.only_polls {
            let why = "it was asked for".into();
            return Watching::Polling { why };
        }
        let polling = lock(&self.polling);
        let why = match &polling.said {
            Some(why) if polling.count > 0 => Err(why.clone()),
            _ => file_system::tells_of_all(&self.root),
        };
        why.map_or_else(|why| Watching::Polling { why }, |()| Watching::Events)
    }

    /// The store's notifier, as long as anybody uses it; why not, when the kernel has none to give.
    pub(super) fn notifier(&self) -> Result<Arc<Notifier>, String> {
        let mut current = lock(&self.notifier);
        if let Some(notifier) = current.upgrade() {
            return Ok(notifier);
        }
        let notifier = Arc::new(Notifier::new().map_err(|error| no_instance(&error))?);
        *current = Arc::downgrade(&notifier);
        Ok(notifier)
    }

    /// Counts one more that is not told of all, and says so once, however many there are.
    pub(super) fn polls(this: &Arc<Self>, why: String) -> Polls {
        if let Some(why) = lock(&this.polling).begin(why) {
            tracing::warn!(
                registry = %this.root.display(),
                why,
                "looking for changes every {POLL:?}, since the kernel does not tell of all"
            );
        }
        Polls(Arc::clone(this))
    }

    /// Notes that one is told of all.
    pub(super) fn is_told(&self) {
        if lock(&self.polling).is_over() {
            tracing::info!(registry = %self.root.display(), "the kernel tells of changes again");
        }
    }
}

impl Polling {
    /// Counts one more; what to say, if that has not been said.
    fn begin(&mut self, why: String) -> Option<&str> {
        self.count += 1;
        if self.said.is_some() {
            return None;
        }
        Some(self.said.insert(why))
    }

    /// Whether what has been said is over, and nobody has been told that.
    fn is_over(&mut self) -> bool {
        self.count == 0 && self.said.take().is_some()
    }
}

impl Drop for Polls {
    fn drop(&mut self) {
        lock(&self.0.polling).count -= 1;
    }
}

/// Why there is no notifier. The code means a process that may open no more files as well.
fn no_instance(error: &io::Error) -> String {
    if error.raw_os_error() == Some(EMFILE) {
        "there is no inotify instance left for this user (sysctl fs.inotify.max_user_instances), or no file for this process \
         (ulimit -n)"
            .into()
    } else {
        format!("there is no inotify: {error}")
    }
}

#[cfg(test)]
mod tests {
    use super::Polling;

    #[test]
    fn it_is_said_once_however_many_are_not_told_and_again_after_they_were() {
        let mut polling = Polling::default();
        assert_eq!(polling.begin("no watch left".into()), Some("no watch left"));
        assert_eq!(polling.begin("no watch left".into()), None);
        polling.count -= 1;
        assert!(!polling.is_over(), "one is not told yet");
        polling.count -= 1;
        assert_eq!(
            polling.begin("no watch left".into()),
            None,
            "one that begins anew"
        );
        polling.count -= 1;
        assert!(polling.is_over());
        assert!(!polling.is_over(), "that was said");
        assert_eq!(polling.begin("on NFS".into()), Some("on NFS"));
    }
}
