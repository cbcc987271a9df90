//! A service's document: one file, written beside its place and renamed. Nobody has to live for it.

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
use crate::{Document, FoundDocument, InvalidDocument, ServiceName};

/// Where a service's document is, or would be.
#[derive(Debug, Clone)]
pub(super) struct DocumentFile {
    pub(super) directory: Arc<Directory>,
    pub(super) name: OsString,
}

impl DocumentFile {
    pub(super) fn new(directory: Arc<Directory>, service: &ServiceName) -> Self {
        let name = layout::document_name(service).into();
        Self { directory, name }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join(&self.name)
    }

    /// What is there now. Blocking.
    pub(super) fn read(&self) -> io::Result<FoundDocument> {
        self.directory.check()?;
        let Some(file) = open(&self.path())? else {
            return Ok(Ok(None));
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            let text = format!("{} is no regular file", self.path().display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let (bytes, most) = (metadata.len(), Document::MAX_BYTES as u64);
        if bytes > most {
            return Ok(Err(InvalidDocument::TooLarge { bytes }));
        }
        let mut text = Vec::new();
        // It may grow while it is read.
        file.take(most + 1).read_to_end(&mut text)?;
        let path = self.path();
        let document = Document::from_bytes(&text);
        Ok(document.map(|d| Some(d.read_at(path.to_string_lossy(), written(&metadata)))))
    }

    /// Puts a document in place of what was there.
    pub(super) async fn set(&self, document: Document) -> io::Result<()> {
        let lock = self.directory.lock().await?;
        let file = self.clone();
        blocking(move || {
            if file.directory.must_be_cleaned() {
                file.directory
                    .clean(&lock, |name| Ok(layout::is_unfinished(name)));
            }
            file.put(&lock, &document)
        })
        .await
    }

    /// Removes the document, if there is one.
    pub(super) async fn delete(&self) -> io::Result<()> {
        let lock = self.directory.lock().await?;
        let file = self.clone();
        blocking(move || file.remove(&lock)).await
    }

    fn remove(&self, _lock: &DirectoryLock) -> io::Result<()> {
        or_absent(fs::remove_file(self.path())).map(drop)
    }

    fn put(&self, _lock: &DirectoryLock, document: &Document) -> io::Result<()> {
        let unfinished = self.directory.path().join(layout::unfinished_name());
        let written = write(&unfinished, &self.path(), document);
        if written.is_err() {
            // If even that fails, whoever comes next cleans it.
            let _ = fs::remove_file(&unfinished);
        }
        written
    }
}

fn write(unfinished: &Path, path: &Path, document: &Document) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(unfinished)?;
    file.write_all(document.as_str().as_bytes())?;
    // A document outlives the machine's crash: what has its name by then is whole.
    file.sync_all()?;
    drop(file);
    fs::rename(unfinished, path)
}
