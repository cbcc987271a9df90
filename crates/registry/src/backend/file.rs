//! One machine, no server: a directory holds the instances and the kernel's file locks tell who lives.
//!
//! Each instance is one file, `<root>/<service, percent-encoded>/<id>.json`, and its owner keeps an exclusive
//! `flock` on it for as long as it lives. A reader that is granted a shared lock knows that the owner is gone. When a
//! process dies, even by SIGKILL, the kernel closes its files and drops its locks, and an inotify watch on the
//! directory sees the close: a death is known in milliseconds, with no lease and no clock. The lock belongs to the
//! open file: std opens files close-on-exec, so no child process keeps it, but a fork that does not exec does.
//!
//! # Who writes, and who cleans
//! - A record is written beside its place, locked while nobody can see it, and then renamed: what can be seen is
//!   whole, and is locked by its owner. An update does the same again, so there is no moment of absence.
//! - Renames and unlinks happen under the lock of `.lock` in the service's directory. Readers do neither; they only
//!   make the directory where it is missing, to watch it.
//! - What a killed process leaves is removed by the next owner: one that registers under the same id replaces it, and
//!   each store, at its first registration for a service, removes every record without an owner and every unfinished
//!   one. So a file written by hand is a dead instance by the same rule: it is never listed, and it is removed.
//! - An owner watches its file: deleted, it is [`Loss::Deleted`](crate::Loss::Deleted); replaced by a later process's, it is
//!   [`Loss::Superseded`](crate::Loss::Superseded).
//!
//! - A service's document is a file too, `<root>/_service_config/<service, percent-encoded>.json`, and is written in the
//!   same way. It belongs to nobody and nobody has it locked: it stays until it is deleted, and may be written by hand.
//! - What an operator wants of an instance is such a file as well, `<root>/_intent/<service, percent-encoded>/<id>.json`.
//!
//! # Where the kernel does not tell
//! Word of changes is about speed alone: each watch looks at all files from time to time as well, each second where word
//! comes and five times a second where it does not. That is so on a file system that others change unheard (NFS, SMB, FUSE
//! and the like, known by statfs(2)), where the kernel has no inotify instance or watch left, and where it was asked for
//! ([`FileStore::open_polling`]). It is logged once, [`FileStore::watching`] tells it, and it ends when word comes. Such a look
//! costs two listings of the directory, and five system calls for each file.
//!
//! # Limits
//! The directory is on a file system with locks (Linux). Those of NFS are the server's, which drops them only when it has heard
//! nothing from a machine for a while (90 s by default); and a client may show its listings as they were a minute ago
//! (`acdirmax`). One registration costs one descriptor, a store one more. A file name has at most 255 bytes, so an instance whose id has more than 250, or whose
//! service has more once each `/` is written `%2F`, cannot be registered; nor has such a service a document.

mod directory;
mod document;
mod error;
mod file_system;
mod followed_directory;
mod hold;
mod intent;
mod layout;
mod lookout;
mod notify;
mod place;
mod recheck;
mod root;
mod sight;
mod store;
mod subscription;
mod unowned;
mod unowned_watch;
mod watch;

use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
    path::{Path, PathBuf, absolute},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::{Stream, stream};
use tokio::task::spawn_blocking;

use self::{
    directory::Directory,
    document::DocumentFile,
    intent::IntentFiles,
    layout::{all_intents_directory, document_of, or_absent, service_of},
    lookout::Lookout,
    notify::Mailbox,
    root::Root,
    sight::Sight,
    subscription::Subscription,
    unowned_watch::{Looked, UnownedWatcher},
};
pub use self::{error::FileError, lookout::Watching};
use super::path_url;
use crate::{Change, Revision, ServiceName, Snapshot, Undecodable, Update};

/// What follows the directory in the URL of a store that only polls.
pub(crate) const POLLING: &str = "?watch=poll";

/// A registry in a directory. Clones share descriptors, not registrations.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let temporary = tempfile::tempdir()?;
/// # let root = temporary.path().join("discovery");
/// use registry::{Address, Claim, HoldRequest, Instance, ServiceName, Store, backend::file::FileStore};
///
/// let store = FileStore::open(root)?;
/// let greeter = ServiceName::new("greeter")?;
/// let instance = Instance::new(greeter.clone(), Address::new("127.0.0.1:50051")?);
/// let ttl = std::time::Duration::from_secs(10); // not needed here: the kernel tells who lives
/// let hold = store.hold(HoldRequest { instance, ttl, claim: Claim::First }).await?;
/// assert_eq!(store.list(&greeter).await?.len(), 1);
/// hold.release().await?;
/// assert_eq!(store.list(&greeter).await?.len(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct FileStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: Root,
    url: String,
    undecodable: Undecodable,
    /// Counts what this store has told; there is no revision that processes share.
    revision: AtomicU64,
    lookout: Arc<Lookout>,
    owned: Mutex<HashMap<ServiceName, Arc<Directory>>>,
    /// Of all documents.
    documents: Arc<Directory>,
}

impl FileStore {
    /// The registry in the directory `root`, which is made with mode 0700 when it is missing.
    ///
    /// One that is there is refused unless this user or root owns it, now and whenever something is done with it; its
    /// mode is the operator's own choice.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, FileError> {
        Self::prepare(root.into(), false)
    }

    /// The same, for a file system that does not tell of changes and is not known for it: looks for them five times a second,
    /// and asks the kernel for nothing. `file:///DIRECTORY?watch=poll` is its URL.
    ///
    /// ```
    /// # let temporary = tempfile::tempdir()?;
    /// # let root = temporary.path().join("discovery");
    /// use registry::backend::file::{FileStore, Watching};
    ///
    /// assert_eq!(FileStore::open(&root)?.watching(), Watching::Events);
    /// assert!(matches!(FileStore::open_polling(&root)?.watching(), Watching::Polling { .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_polling(root: impl Into<PathBuf>) -> Result<Self, FileError> {
        Self::prepare(root.into(), true)
    }

    fn prepare(given: PathBuf, polls: bool) -> Result<Self, FileError> {
        let root = absolute(&given).map_err(|source| FileError::Unusable {
            path: given,
            source,
        })?;
        let root = Root::new(root);
        root.prepare()?;
        Ok(Self::at(root, polls))
    }

    fn at(root: Root, polls: bool) -> Self {
        let option = if polls { POLLING } else { "" };
        Self {
            shared: Arc::new(Shared {
                url: path_url("file", root.path()) + option,
                documents: Arc::new(Directory::of_documents(root.clone())),
                lookout: Arc::new(Lookout::new(root.path().to_owned(), polls)),
                root,
                undecodable: Undecodable::default(),
                revision: AtomicU64::new(0),
                owned: Mutex::default(),
            }),
        }
    }

    /// How what others change is learnt of, as of now: where the kernel cannot tell, it is asked again from time to time.
    pub fn watching(&self) -> Watching {
        self.shared.lookout.watching()
    }

    /// The registry's directory.
    pub fn root(&self) -> &Path {
        self.shared.root.path()
    }
}

impl Shared {
    fn directory(&self, service: &ServiceName) -> Arc<Directory> {
        Arc::new(Directory::of_service(self.root.clone(), service))
    }

    fn sight(&self, directory: &Arc<Directory>, service: &ServiceName) -> Sight {
        let directory = Arc::clone(directory);
        Sight::new(directory, service.clone(), self.undecodable.clone())
    }

    /// A subscription to nothing yet; word will go to `mailbox`.
    fn subscription(&self, mailbox: &Arc<Mailbox>) -> Subscription {
        Subscription::new(Arc::clone(&self.lookout), Arc::clone(mailbox))
    }

    /// The directory of a service that this process registers for: one value, whoever asks.
    fn owned_directory(&self, service: &ServiceName) -> Arc<Directory> {
        let mut owned = lock(&self.owned);
        let directory = owned
            .entry(service.clone())
            .or_insert_with(|| self.directory(service));
        Arc::clone(directory)
    }

    fn document(&self, service: &ServiceName) -> DocumentFile {
        DocumentFile::new(Arc::clone(&self.documents), service)
    }

    fn intents(&self, service: &ServiceName) -> IntentFiles {
        let directory = Directory::of_intents(self.root.clone(), service);
        IntentFiles::new(directory, self.undecodable.clone())
    }

    fn change(&self, updates: Vec<Update>) -> Change {
        let told = self.revision.fetch_add(1, Ordering::Relaxed) + 1;
        Change {
            revision: Revision(told),
            updates,
        }
    }

    /// What is seen of files that nobody holds: at first as they are, then once they have changed.
    fn follow<L: Looked>(&self, files: L) -> impl Stream<Item = io::Result<L::Seen>> + use<L> {
        let watcher = UnownedWatcher::new(self, files);
        stream::try_unfold(watcher, |mut watcher| async {
            Ok(Some((watcher.next().await?, watcher)))
        })
    }

    fn list(&self, service: &ServiceName) -> io::Result<Snapshot> {
        let mut sight = self.sight(&self.directory(service), service);
        let updates = sight.look_at_all()?;
        Ok(Snapshot::empty(service.clone()).apply(self.change(updates)))
    }

    fn services(&self) -> io::Result<Vec<ServiceName>> {
        let mut services = Vec::new();
        self.root.check().map_err(io::Error::other)?;
        let Some(entries) = or_absent(fs::read_dir(self.root.path()))? else {
            return Ok(services);
        };
        for entry in entries {
            let entry = entry?;
            // What is no directory is somebody's note, and no service.
            if let Some(service) = service_of(&entry.file_name())
                && entry.path().is_dir()
                && self
                    .sight(&self.directory(&service), &service)
                    .is_any_live()?
            {
                services.push(service);
            }
        }
        services.sort();
        Ok(services)
    }

    /// Those that have an instance, a document, or a file where intents for their instances are.
    fn known_services(&self) -> io::Result<Vec<ServiceName>> {
        let mut known: BTreeSet<_> = self.services()?.into_iter().collect();
        let documents = self.documents.names()?;
        known.extend(documents.iter().filter_map(|file| document_of(file)));
        if let Some(entries) = or_absent(fs::read_dir(all_intents_directory(self.root.path())))? {
            for entry in entries {
                if let Some(service) = service_of(&entry?.file_name())
                    && self.intents(&service).is_any()?
                {
                    known.insert(service);
                }
            }
        }
        Ok(known.into_iter().collect())
    }
}

/// Does what may wait for a disk, on a thread where nothing else waits for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = spawn_blocking(work).await.map_err(io::Error::other)?;
    done.map_err(error::of_opening)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
