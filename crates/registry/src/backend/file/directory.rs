//! One directory of the registry, and the lock under which names in it change hands.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

use super::{
    blocking, error,
    layout::{self, FileIdentity, or_absent},
    root::Root,
};
use crate::{Backoff, BackoffPolicy, ServiceName};

/// How long to wait for whoever holds the lock; it is held for a few system calls at a time.
const LOCK_BOUND: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Directory {
    root: Root,
    path: PathBuf,
    /// Whose turn it is among this process's tasks, so that only one of them asks for the lock.
    turn: Arc<Semaphore>,
    was_cleaned: AtomicBool,
}

/// The right to rename and unlink in a directory; ends with the value.
///
/// The descriptor is closed on exec, as all that std opens: no child process inherits the lock.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    _file: File,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Directory {
    /// That of a service.
    pub(super) fn of_service(root: Root, service: &ServiceName) -> Self {
        let path = layout::service_directory(root.path(), service);
        Self::new(root, path)
    }

    /// That of all documents.
    pub(super) fn of_documents(root: Root) -> Self {
        let path = layout::documents_directory(root.path());
        Self::new(root, path)
    }

    /// That of the intents for the instances of a service.
    pub(super) fn of_intents(root: Root, service: &ServiceName) -> Self {
        let path = layout::intents_directory(root.path(), service);
        Self::new(root, path)
    }

    fn new(root: Root, path: PathBuf) -> Self {
        Self {
            root,
            path,
            turn: Arc::new(Semaphore::new(1)),
            was_cleaned: AtomicBool::new(false),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this is the first time that it is asked.
    pub(super) fn must_be_cleaned(&self) -> bool {
        !self.was_cleaned.swap(true, Ordering::Relaxed)
    }

    /// Makes sure that the directory is there, in a registry that may be trusted.
    pub(super) fn create(&self) -> io::Result<()> {
        self.root.prepare().map_err(io::Error::other)?;
        DirBuilder::new().recursive(true).create(&self.path)
    }

    /// An error with something that was to be written here, with what would do.
    pub(super) fn not_written(&self, error: io::Error) -> io::Error {
        error::of_writing(&self.path, error)
    }

    /// Refuses a registry that may not be trusted: to be asked before anything in it is believed.
    pub(super) fn check(&self) -> io::Result<()> {
        self.root.check().map_err(io::Error::other)
    }

    /// The names of all files in it; none when there is no directory.
    pub(super) fn names(&self) -> io::Result<BTreeSet<OsString>> {
        self.check()?;
        // A file that is replaced during a reading can be missing from it (tmpfs before Linux 6.6), but hardly from
        // two in a row.
        let mut names = self.read_names()?;
        names.append(&mut self.read_names()?);
        Ok(names)
    }

    fn read_names(&self) -> io::Result<BTreeSet<OsString>> {
        match or_absent(fs::read_dir(&self.path))? {
            Some(entries) => entries.map(|entry| Ok(entry?.file_name())).collect(),
            None => Ok(BTreeSet::new()),
        }
    }

    /// Removes the files that are left over: `is_left` says of which this is so.
    ///
    /// Nobody writes while we hold the lock, so whatever is unfinished now stays so.
    pub(super) fn clean(
        &self,
        _lock: &DirectoryLock,
        is_left: impl Fn(&OsStr) -> io::Result<bool>,
    ) {
        let remove_if_left = |name: &OsStr| {
            if is_left(name)? {
                fs::remove_file(self.path.join(name))?;
            }
            io::Result::Ok(())
        };
        for name in self.names().unwrap_or_default() {
            if let Err(error) = remove_if_left(&name) {
                let path = self.path.join(&name);
                tracing::warn!(path = %path.display(), %error, "cannot remove what a dead process left");
            }
        }
    }

    /// Takes the lock if nobody holds it.
    pub(super) fn try_lock(&self) -> io::Result<Option<DirectoryLock>> {
        let path = self.path.join(layout::LOCK);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Whoever deletes the directory deletes the lock with it: what was locked may not be what others lock.
        let current = FileIdentity::at(&path)? == Some(FileIdentity::of(&file.metadata()?));
        Ok(current.then_some(DirectoryLock {
            _file: file,
            _turn: None,
        }))
    }

    /// Takes the lock, after the directory was made where it is missing.
    pub(super) async fn lock(self: &Arc<Self>) -> io::Result<DirectoryLock> {
        let mut backoff = Backoff::new(BackoffPolicy {
            initial: Duration::from_millis(1),
            max: Duration::from_millis(20),
            multiplier: 1.6,
            jitter: 0.5,
        });
        let locked = async {
            let turn = Arc::clone(&self.turn).acquire_owned().await;
            let turn = turn.map_err(io::Error::other)?;
            loop {
                let directory = Arc::clone(self);
                let attempt = blocking(move || {
                    directory.create()?;
                    directory.try_lock()
                });
                if let Some(lock) = attempt.await? {
                    return Ok(DirectoryLock {
                        _turn: Some(turn),
                        ..lock
                    });
                }
                sleep(backoff.next_delay()).await;
            }
        };
        timeout(LOCK_BOUND, locked).await.unwrap_or_else(|_| {
            let path = self.path.join(layout::LOCK);
            let text = format!("{} was not free within {LOCK_BOUND:?}", path.display());
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        })
    }
}
