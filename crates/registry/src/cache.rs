//! What was known last of each service, kept in a directory: for a process that starts while the registry is down.
//!
//! ```text
//! DIRECTORY/                            created with mode 0700
//!   url=etcd:%2F%2F10.0.0.1:2379%2Feu/  a registry, by its URL
//!     .AbCdEf.tmp                       what is being written, or was when its process was killed
//!     instances/
//!       shop%2Fbasket.json              a service's instances, as they say themselves, and what is wanted of them; mode 0600
//!     documents/
//!       shop%2Fbasket.json              its document, or that it has none
//! ```
//!
//! A file is written beside its place and renamed, so that what has its name is whole. It is not flushed to the disk: after
//! a crash of the machine it may be no such file, and is ignored.
//!
//! Instances are kept apart from the intents for them, and are merged again when they are read: so one of the two can be
//! replaced by what the registry has while the other cannot be read yet, and nobody forgets what an instance says itself.

mod file;
mod form;
mod slot;

use std::{
    ffi::OsStr,
    fs, io,
    path::Path,
    sync::{
        Arc, Once,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use self::{file::CacheFile, form::Kept};
pub(crate) use self::{form::KeptDocument, slot::Slot};
use crate::ServiceName;

/// How long a registry is given to answer before what was kept is shown in its place.
pub(crate) const GRACE: Duration = Duration::from_millis(300);
/// What is said of what is known from no other place.
pub(crate) const ONLY_KEPT: &str = "known from the cache only";
/// The longest that a file's name may be, in bytes.
const LONGEST_NAME: usize = 255;
/// What is unfinished for so long was left by a process that was killed.
const LEFT: Duration = Duration::from_mins(1);
const UNFINISHED: (&str, &str) = (".", ".tmp");
/// What cannot stand in a file's name, and the sign that announces it.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'/').add(b'%');

/// Where what is known of one registry is kept. Clones complain together.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    directory: Arc<Path>,
    registry: Arc<str>,
    tidied: Arc<Once>,
    has_failed: Arc<AtomicBool>,
}

impl Cache {
    /// That of the registry at `url`, in `directory`. Does no I/O.
    pub(crate) fn new(directory: &Path, url: &str) -> Self {
        let mut name = format!("url={}", utf8_percent_encode(url, ESCAPED));
        // Which registry a file is of, it says itself.
        name.truncate(LONGEST_NAME);
        Self {
            directory: directory.join(name).into(),
            registry: url.into(),
            tidied: Arc::new(Once::new()),
            has_failed: Arc::default(),
        }
    }

    /// The file of a service.
    fn file<T: Kept>(&self, service: &ServiceName) -> CacheFile<T> {
        let name = utf8_percent_encode(service.as_str(), ESCAPED);
        let kind = self.directory.join(T::KIND);
        let path = kind.join(format!("{name}.json"));
        CacheFile::new(path, self.clone(), service.clone())
    }

    /// Removes what processes that were killed have left unfinished; once. What cannot be removed takes a little room.
    fn tidy(&self) {
        self.tidied.call_once(|| {
            let entries = fs::read_dir(&self.directory).into_iter().flatten();
            for entry in entries.flatten() {
                if let Ok(metadata) = entry.metadata()
                    && is_left(&entry.file_name(), &metadata)
                    && let Err(error) = fs::remove_file(entry.path())
                {
                    let path = entry.path();
                    tracing::debug!(path = %path.display(), %error, "cannot remove what a dead process left");
                }
            }
        });
    }

    /// Says that something could not be kept; once, until something could.
    fn note(&self, kept: io::Result<()>) {
        let failed = kept.is_err();
        let had_failed = self.has_failed.swap(failed, Ordering::Relaxed);
        if let Err(error) = kept
            && !had_failed
        {
            let directory = self.directory.display();
            tracing::warn!(%directory, %error, "cannot keep what is known of the registry for the next start; trying on");
        }
    }
}

fn is_left(name: &OsStr, metadata: &fs::Metadata) -> bool {
    let (before, after) = UNFINISHED;
    let name = name.to_string_lossy();
    let age = metadata.modified().ok().and_then(|at| at.elapsed().ok());
    name.starts_with(before) && name.ends_with(after) && age.is_some_and(|age| age > LEFT)
}

#[cfg(test)]
mod tests;
