//! Word from the kernel that something changed in a directory.
//!
//! One inotify descriptor serves a whole store, since a user has 128 of them. It and its task live as long as anybody
//! subscribes. Word may be missed (no descriptor left, a queue that ran over): every subscriber also looks by itself
//! once in a while, so that this is about speed only.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::{OsStr, OsString},
    io, mem,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::{sync::Notify, time::sleep};
use tokio_util::task::AbortOnDropHandle;

use super::layout::is_record;

/// So many names wait in a mailbox; if there are more, all files are looked at.
const MOST_NAMES: usize = 1024;
/// The kernel hands over as many events as fit here.
const BUFFER_BYTES: usize = 16 * 1024;

/// What a mailbox has received since it was emptied last.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// Records that came, went or were replaced.
    pub(super) names: BTreeSet<OsString>,
    /// Records among them that were closed: their owner may have died.
    pub(super) closed: BTreeSet<OsString>,
    /// Anything may have changed.
    pub(super) everything: bool,
    /// The directory is not where it was, and no more word comes from it.
    pub(super) unwatched: bool,
}

/// Where word arrives for one subscriber. Bounded: names are kept once each, and not too many.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    /// The one file of interest; all when there is none.
    only: Option<OsString>,
    mail: Mutex<Mail>,
    arrived: Notify,
}

impl Mailbox {
    pub(super) fn new(only: Option<OsString>) -> Self {
        Self {
            only,
            ..Self::default()
        }
    }

    /// Waits for mail and takes it. Cancellation safe; for one caller at a time.
    pub(super) async fn receive(&self) -> Mail {
        loop {
            let mail = mem::take(&mut *lock(&self.mail));
            if mail.everything || !mail.names.is_empty() {
                return mail;
            }
            self.arrived.notified().await;
        }
    }

    fn post_name(&self, name: &OsStr, closed: bool) {
        if self.only.as_deref().is_some_and(|only| only != name) {
            return;
        }
        let mut mail = lock(&self.mail);
        if mail.names.len() < MOST_NAMES {
            mail.names.insert(name.to_owned());
            if closed {
                mail.closed.insert(name.to_owned());
            }
        } else {
            mail.everything = true;
        }
        drop(mail);
        self.arrived.notify_one();
    }

    fn post_everything(&self, unwatched: bool) {
        let mut mail = lock(&self.mail);
        mail.everything = true;
        mail.unwatched |= unwatched;
        drop(mail);
        self.arrived.notify_one();
    }
}

/// One inotify descriptor and the task that reads it.
#[derive(Debug)]
pub(super) struct Notifier {
    watches: Watches,
    directories: Directories,
    _reader: AbortOnDropHandle<()>,
}

type Directories = Arc<Mutex<HashMap<i32, Watched>>>;

#[derive(Debug)]
struct Watched {
    descriptor: WatchDescriptor,
    mailboxes: Vec<Arc<Mailbox>>,
}

impl Notifier {
    pub(super) fn new() -> io::Result<Self> {
        let events = Inotify::init()?.into_event_stream(vec![0; BUFFER_BYTES])?;
        let directories = Directories::default();
        let watches = events.watches();
        let reader = tokio::spawn(read(events, watches.clone(), Arc::clone(&directories)));
        Ok(Self {
            watches,
            directories,
            _reader: AbortOnDropHandle::new(reader),
        })
    }

    /// Has word of a directory go to a mailbox; returns what names the watch.
    pub(super) fn add(&self, path: &Path, mailbox: &Arc<Mailbox>) -> io::Result<i32> {
        let changes = WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            // A file that was replaced or deleted closes unheard: only a death is a close that counts.
            | WatchMask::EXCL_UNLINK
            | WatchMask::ONLYDIR;
        // Locked around the system call, so that no event comes before there is a mailbox for it.
        let mut directories = lock(&self.directories);
        let descriptor = self.watches.clone().add(path, changes)?;
        let watch = descriptor.get_watch_descriptor_id();
        let watched = directories.entry(watch).or_insert_with(|| Watched {
            descriptor,
            mailboxes: Vec::new(),
        });
        watched.mailboxes.push(Arc::clone(mailbox));
        Ok(watch)
    }

    pub(super) fn remove(&self, watch: i32, mailbox: &Arc<Mailbox>) {
        let mut directories = lock(&self.directories);
        let Some(watched) = directories.get_mut(&watch) else {
            return;
        };
        watched.mailboxes.retain(|m| !Arc::ptr_eq(m, mailbox));
        if watched.mailboxes.is_empty() {
            forget(&mut directories, &self.watches, watch);
        }
    }
}

/// Ends a watch, and hands back whom it served.
fn forget(
    directories: &mut HashMap<i32, Watched>,
    watches: &Watches,
    watch: i32,
) -> Vec<Arc<Mailbox>> {
    let Some(ended) = directories.remove(&watch) else {
        return Vec::new();
    };
    // Fails when the kernel has ended the watch with its directory, which is as good.
    let _ = watches.clone().remove(ended.descriptor);
    ended.mailboxes
}

async fn read(mut events: EventStream<Vec<u8>>, watches: Watches, directories: Directories) {
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => dispatch(&event, &watches, &directories),
            Err(error) => {
                tracing::warn!(%error, "cannot read what changed in a registry directory");
                post_to_all(&directories);
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

fn dispatch(event: &EventOwned, watches: &Watches, directories: &Directories) {
    const ENDED: EventMask = EventMask::DELETE_SELF
        .union(EventMask::MOVE_SELF)
        .union(EventMask::UNMOUNT)
        .union(EventMask::IGNORED);
    if event.mask.contains(EventMask::Q_OVERFLOW) {
        return post_to_all(directories);
    }
    let watch = event.wd.get_watch_descriptor_id();
    let mut directories = lock(directories);
    if event.mask.intersects(ENDED) {
        for mailbox in forget(&mut directories, watches, watch) {
            mailbox.post_everything(true);
        }
    } else if let (Some(watched), Some(name)) = (directories.get(&watch), &event.name)
        && is_record(name)
    {
        let closed = event.mask.contains(EventMask::CLOSE_WRITE);
        for mailbox in &watched.mailboxes {
            mailbox.post_name(name, closed);
        }
    }
}

fn post_to_all(directories: &Directories) {
    for watched in lock(directories).values() {
        for mailbox in &watched.mailboxes {
            mailbox.post_everything(false);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
