//! An instance's file, as its owner has it: put there, replaced, taken away. Blocking, and each step under the
//! directory's lock.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
};

use super::{
    directory::{Directory, DirectoryLock},
    layout::{self, FileIdentity},
    sight::{Seen, look},
};
use crate::{Claim, Incarnation, Instance, Loss, ServiceName, Undecodable, record::Record};

/// A file that is ours and locked. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct Place {
    directory: Arc<Directory>,
    path: PathBuf,
    service: ServiceName,
    incarnation: Option<Incarnation>,
    undecodable: Undecodable,
    /// The locked file; `None` once it is given up.
    file: Mutex<Option<File>>,
}

/// Why a place could not be taken.
#[derive(Debug)]
pub(super) enum Refused {
    /// A live process has it; the text says who.
    Held(String),
    Failed(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl Place {
    pub(super) fn take(
        lock: &DirectoryLock,
        directory: Arc<Directory>,
        instance: &Instance,
        claim: Claim,
        undecodable: Undecodable,
    ) -> Result<Self, Refused> {
        let path = directory.path().join(layout::record_name(&instance.id));
        let place = Self {
            directory,
            path,
            service: instance.service.clone(),
            incarnation: instance.incarnation,
            undecodable,
            file: Mutex::new(None),
        };
        if claim != Claim::First
            && let Seen::Live(holder) = place.look()?
            && !place.is_same(holder.as_ref())
        {
            return Err(Refused::Held(name_of(holder.as_ref())));
        }
        place.put(lock, instance)?;
        Ok(place)
    }

    /// Puts another record in place.
    pub(super) fn replace(&self, lock: &DirectoryLock, instance: &Instance) -> io::Result<()> {
        if self.is_ours()? {
            return self.put(lock, instance);
        }
        let text = format!("{} is not ours any more", self.path.display());
        Err(io::Error::new(io::ErrorKind::NotFound, text))
    }

    /// Removes the file, unless another has its name by now.
    pub(super) fn release(&self, _lock: &DirectoryLock) -> io::Result<()> {
        let ours = self.is_ours()?;
        let file = self.file().take();
        if ours {
            fs::remove_file(&self.path)?;
        }
        // Closed after it was unlinked: until then nobody can see a file without an owner.
        drop(file);
        Ok(())
    }

    /// How the place was lost, if it was.
    ///
    /// Called on a runtime's own threads from time to time: while the place is ours it asks for the metadata of one file, which the
    /// kernel has at hand as long as we have that file open.
    pub(super) fn loss(&self) -> Option<Loss> {
        let ours = match self.file.try_lock() {
            Ok(file) => identity(file.as_ref()),
            Err(TryLockError::Poisoned(poisoned)) => identity(poisoned.get_ref().as_ref()),
            // A replacement that nobody waits for any more is being written: asked again in a moment.
            Err(TryLockError::WouldBlock) => return None,
        };
        match ours.and_then(|ours| Ok((ours, FileIdentity::at(&self.path)?))) {
            Ok((ours, now)) if ours.is_some() && ours == now => None,
            Ok((_, None)) => Some(Loss::Deleted("its file was deleted".into())),
            Ok((_, Some(_))) => Some(self.who_has_it()),
            Err(error) => Some(Loss::Gone(format!("its file is out of reach: {error}"))),
        }
    }

    /// Another file has our name: a later process's, or something that nobody stands behind.
    fn who_has_it(&self) -> Loss {
        match self.look() {
            Ok(Seen::Live(holder)) => Loss::Superseded(name_of(holder.as_ref())),
            Ok(Seen::Dead) => Loss::Gone("its file was replaced by nobody's".into()),
            Ok(Seen::Nothing) => Loss::Deleted("its file was deleted".into()),
            Err(error) => Loss::Gone(format!("its file is out of reach: {error}")),
        }
    }

    fn look(&self) -> io::Result<Seen> {
        self.directory.check()?;
        let name = self.path.file_name().unwrap_or(OsStr::new(""));
        look(&self.directory, &self.service, name, &self.undecodable)
    }

    fn is_same(&self, holder: Option<&Instance>) -> bool {
        holder.is_some_and(|holder| holder.incarnation == self.incarnation)
    }

    /// Writes a record beside its place, locks it while nobody can see it, and only then gives it its name.
    ///
    /// Not flushed to the disk: after a crash of the machine no owner lives, and no file is read.
    fn put(&self, _lock: &DirectoryLock, instance: &Instance) -> io::Result<()> {
        let mut current = self.file();
        let unfinished = self.directory.path().join(layout::unfinished_name());
        match write(&unfinished, &self.path, instance) {
            Ok(file) => {
                // The earlier file closes now that it has lost its name.
                *current = Some(file);
                Ok(())
            }
            Err(error) => {
                // If even that fails, whoever comes next cleans it.
                let _ = fs::remove_file(&unfinished);
                Err(error)
            }
        }
    }

    fn is_ours(&self) -> io::Result<bool> {
        let ours = identity(self.file().as_ref())?;
        Ok(ours.is_some() && ours == FileIdentity::at(&self.path)?)
    }

    fn file(&self) -> MutexGuard<'_, Option<File>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    /// Without waiting: a handful of system calls. Where the directory's lock is taken, closing the file must do: readers
    /// see then that its owner is gone, and the next owner removes it.
    fn drop(&mut self) {
        if self.file().is_none() {
            return;
        }
        if let Ok(Some(lock)) = self.directory.try_lock()
            && let Err(error) = self.release(&lock)
        {
            tracing::warn!(path = %self.path.display(), %error, "left a file behind; the next owner removes it");
        }
    }
}

fn identity(file: Option<&File>) -> io::Result<Option<FileIdentity>> {
    file.map(|file| Ok(FileIdentity::of(&file.metadata()?)))
        .transpose()
}

fn write(unfinished: &Path, path: &Path, instance: &Instance) -> io::Result<File> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(unfinished)?;
    file.try_lock()?;
    file.write_all(Record::new(instance).to_json().as_bytes())?;
    fs::rename(unfinished, path)?;
    Ok(file)
}

fn name_of(holder: Option<&Instance>) -> String {
    match holder.and_then(|holder| holder.incarnation) {
        Some(incarnation) => format!("incarnation {incarnation}"),
        None => "an unnamed incarnation".into(),
    }
}

/// Removes what processes that were killed have left: records without an owner, and records that were never finished.
pub(super) fn clean(
    lock: &DirectoryLock,
    directory: &Directory,
    service: &ServiceName,
    undecodable: &Undecodable,
) {
    directory.clean(lock, |name| {
        Ok(layout::is_unfinished(name)
            || layout::is_record(name)
                && matches!(look(directory, service, name, undecodable)?, Seen::Dead))
    });
}
