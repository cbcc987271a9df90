//! What a reader sees: which records there are, whose owners live, and what has changed since it looked last.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs::{File, Metadata, OpenOptions, TryLockError},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use nix::libc;

use super::{
    directory::Directory,
    layout::{self, FileIdentity, or_absent},
};
use crate::{Instance, Revision, ServiceName, Undecodable, Update, record::Record};

/// A record larger than this is somebody's mistake, in bytes.
const LARGEST: u64 = 1024 * 1024;
/// How often a file that is replaced while it is looked at is looked at again.
const TRIES: usize = 16;

/// One service's instances as one reader has seen them last.
#[derive(Debug)]
pub(super) struct Sight {
    directory: Arc<Directory>,
    service: ServiceName,
    undecodable: Undecodable,
    live: BTreeMap<OsString, Arc<Instance>>,
}

impl Sight {
    pub(super) fn new(
        directory: Arc<Directory>,
        service: ServiceName,
        undecodable: Undecodable,
    ) -> Self {
        Self {
            directory,
            service,
            undecodable,
            live: BTreeMap::new(),
        }
    }

    /// The live instances as of the last look.
    pub(super) fn live(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.live.values()
    }

    pub(super) fn is_live(&self, name: &OsStr) -> bool {
        self.live.contains_key(name)
    }

    /// Looks at every file there is, and at every one that there was.
    pub(super) fn look_at_all(&mut self) -> io::Result<Vec<Update>> {
        let mut names = self.directory.names()?;
        names.extend(self.live.keys().cloned());
        self.look_at(&names)
    }

    /// Looks at the files of these names, and says what has changed.
    pub(super) fn look_at(&mut self, names: &BTreeSet<OsString>) -> io::Result<Vec<Update>> {
        self.directory.check()?;
        let mut updates = Vec::new();
        for name in names.iter().filter(|name| layout::is_record(name)) {
            let now = self.look(name)?.instance();
            updates.extend(self.note(name, now));
        }
        Ok(updates)
    }

    /// Whether any instance lives; looks no further than the first.
    pub(super) fn is_any_live(&self) -> io::Result<bool> {
        for name in self.directory.names()? {
            if layout::is_record(&name) && self.look(&name)?.instance().is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn look(&self, name: &OsStr) -> io::Result<Seen> {
        look(&self.directory, &self.service, name, &self.undecodable)
    }

    fn note(&mut self, name: &OsStr, now: Option<Instance>) -> Option<Update> {
        match (self.live.get(name), now) {
            (Some(before), Some(now)) if **before == now => None,
            (_, Some(now)) => {
                let now = Arc::new(now);
                self.live.insert(name.to_owned(), Arc::clone(&now));
                Some(Update::Upsert(now))
            }
            (_, None) => {
                let gone = self.live.remove(name)?;
                Some(Update::Remove(gone.id.clone()))
            }
        }
    }
}

/// What stands at a name.
#[derive(Debug)]
pub(super) enum Seen {
    /// No file.
    Nothing,
    /// A file that nobody has locked: its owner is gone.
    Dead,
    /// A file whose owner lives. What it says, where that can be read.
    Live(Option<Instance>),
}

impl Seen {
    /// The instance, if it lives.
    fn instance(self) -> Option<Instance> {
        match self {
            Self::Live(instance) => instance,
            Self::Nothing | Self::Dead => None,
        }
    }
}

/// Looks at one file. Nothing but the file itself tells whether its owner lives: a shared lock that is granted says
/// that it does not. The lock is given back before this returns, and hinders nobody: readers share it, and an owner
/// locks its file before others can see it.
pub(super) fn look(
    directory: &Directory,
    service: &ServiceName,
    name: &OsStr,
    undecodable: &Undecodable,
) -> io::Result<Seen> {
    let path = directory.path().join(name);
    let mut instance = None;
    for _ in 0..TRIES {
        let file = match open(&path) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(Seen::Nothing),
            Err(error) if is_that_file_s(&error) => {
                undecodable.skip(&path.to_string_lossy(), 0, &error);
                // Whether its owner lives cannot be told, so nobody may take it for dead.
                return Ok(Seen::Live(None));
            }
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        instance = match decode(&file, &metadata, service, name) {
            Ok(instance) => Some(instance.read_at(path.to_string_lossy(), written(&metadata))),
            Err(reason) => {
                let revision = (metadata.ino(), metadata.mtime(), metadata.mtime_nsec());
                undecodable.skip(&path.to_string_lossy(), revision, &reason);
                None
            }
        };
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => return Ok(Seen::Live(instance)),
            Err(TryLockError::Error(error)) => return Err(error),
            // The owner is gone, or it has put another file in place since this one was opened.
            Ok(()) => match FileIdentity::at(&path)? {
                None => return Ok(Seen::Nothing),
                Some(now) if now == FileIdentity::of(&metadata) => {
                    return Ok(Seen::Dead);
                }
                Some(_) => {}
            },
        }
    }
    // Replaced each time: somebody lives there, and its next change will be told.
    Ok(Seen::Live(instance))
}

/// Opens a file of the registry to be read; none when there is no such file.
pub(super) fn open(path: &Path) -> io::Result<Option<File>> {
    // Neither a link nor a pipe that somebody put there can lead us elsewhere or keep us waiting.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    or_absent(OpenOptions::new().read(true).custom_flags(flags).open(path))
}

/// Whether an error is about one file, and says nothing of the others.
pub(super) fn is_that_file_s(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
        || matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO))
}

/// When a file was written: in this registry each change of a record is another file.
pub(super) fn written(metadata: &Metadata) -> Revision {
    let since_1970 = metadata
        .mtime()
        .unsigned_abs()
        .saturating_mul(1_000_000_000);
    Revision(since_1970.saturating_add(metadata.mtime_nsec().unsigned_abs()))
}

fn decode(
    file: &File,
    metadata: &Metadata,
    service: &ServiceName,
    name: &OsStr,
) -> Result<Instance, String> {
    let id = layout::id_of(name).ok_or("its name is no instance's id")?;
    if !metadata.is_file() {
        return Err("it is no regular file".into());
    }
    let mut text = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut text)
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > LARGEST {
        return Err(format!("it is larger than {LARGEST} bytes"));
    }
    let instance = Record::parse(&text)
        .ok_or("it is not the JSON of an instance")?
        .into_instance(service.clone(), None)
        .map_err(|error| error.to_string())?;
    if instance.id != id {
        return Err(format!("it says that its id is {}", instance.id));
    }
    Ok(instance)
}
