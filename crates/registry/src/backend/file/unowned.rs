//! A file that nobody holds: written beside its place and renamed, and there until it is removed.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    blocking,
    directory::{Directory, DirectoryLock},
    layout::{self, or_absent},
    sight::{open, written},
};
use crate::Revision;

/// Where such a file is, or would be.
#[derive(Debug, Clone)]
pub(super) struct Unowned {
    pub(super) directory: Arc<Directory>,
    pub(super) name: OsString,
}

/// What such a file holds.
#[derive(Debug)]
pub(super) struct Contents {
    /// All of it; nothing, or one byte more than was asked for, of what is longer.
    pub(super) bytes: Vec<u8>,
    /// Its length, as far as that is known.
    pub(super) length: u64,
    pub(super) written: Revision,
}

impl Unowned {
    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join(&self.name)
    }

    /// What is there now. Of what has more than `most` bytes no more than its length is told. Blocking.
    pub(super) fn read(&self, most: usize) -> io::Result<Option<Contents>> {
        self.directory.check()?;
        let Some(file) = open(&self.path())? else {
            return Ok(None);
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            let text = format!("{} is no regular file", self.path().display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mut bytes = Vec::new();
        if metadata.len() <= most as u64 {
            // It may grow while it is read.
            file.take(most as u64 + 1).read_to_end(&mut bytes)?;
        }
        Ok(Some(Contents {
            length: metadata.len().max(bytes.len() as u64),
            bytes,
            written: written(&metadata),
        }))
    }

    /// Puts a text in place of what was there.
    pub(super) async fn put(&self, text: String) -> io::Result<()> {
        let file = self.clone();
        self.change(move |lock| {
            if file.directory.must_be_cleaned() {
                file.directory
                    .clean(lock, |name| Ok(layout::is_unfinished(name)));
            }
            file.replace(lock, &text)
        })
        .await
    }

    /// Removes what is there, if anything is.
    pub(super) async fn delete(&self) -> io::Result<()> {
        let file = self.clone();
        self.change(move |lock| file.remove(lock)).await
    }

    async fn change(
        &self,
        work: impl FnOnce(&DirectoryLock) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let changed = match self.directory.lock().await {
            Ok(lock) => blocking(move || work(&lock)).await,
            Err(error) => Err(error),
        };
        changed.map_err(|error| self.directory.not_written(error))
    }

    fn remove(&self, _lock: &DirectoryLock) -> io::Result<()> {
        or_absent(fs::remove_file(self.path())).map(drop)
    }

    fn replace(&self, _lock: &DirectoryLock, text: &str) -> io::Result<()> {
        let unfinished = self.directory.path().join(layout::unfinished_name());
        let written = write(&unfinished, &self.path(), text);
        if written.is_err() {
            // If even that fails, whoever comes next cleans it.
            let _ = fs::remove_file(&unfinished);
        }
        written
    }
}

fn write(unfinished: &Path, path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(unfinished)?;
    file.write_all(text.as_bytes())?;
    // It outlives the machine's crash: what has its name by then is whole.
    file.sync_all()?;
    drop(file);
    fs::rename(unfinished, path)
}
