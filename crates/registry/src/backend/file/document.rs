//! A service's document: one file.

use std::{ffi::OsString, io, sync::Arc};

use super::{directory::Directory, layout, unowned::Unowned, unowned_watch::Looked};
use crate::{Document, FoundDocument, InvalidDocument, ServiceName};

/// Where a service's document is, or would be.
#[derive(Debug, Clone)]
pub(super) struct DocumentFile(Unowned);

impl DocumentFile {
    pub(super) fn new(directory: Arc<Directory>, service: &ServiceName) -> Self {
        let name = layout::document_name(service).into();
        Self(Unowned { directory, name })
    }

    /// What is there now. Blocking.
    pub(super) fn read(&self) -> io::Result<FoundDocument> {
        let Some(found) = self.0.read(Document::MAX_BYTES)? else {
            return Ok(Ok(None));
        };
        if found.length > Document::MAX_BYTES as u64 {
            let bytes = found.length;
            return Ok(Err(InvalidDocument::TooLarge { bytes }));
        }
        let path = self.0.path();
        let document = Document::from_bytes(&found.bytes);
        Ok(document.map(|d| Some(d.read_at(path.to_string_lossy(), found.written))))
    }

    /// Puts a document in place of what was there.
    pub(super) async fn set(&self, document: &Document) -> io::Result<()> {
        self.0.put(document.as_str().to_owned()).await
    }

    /// Removes the document, if there is one.
    pub(super) async fn delete(&self) -> io::Result<()> {
        self.0.delete().await
    }
}

impl Looked for DocumentFile {
    type Seen = FoundDocument;

    fn directory(&self) -> &Arc<Directory> {
        &self.0.directory
    }

    fn only(&self) -> Option<OsString> {
        Some(self.0.name.clone())
    }

    fn look(&self) -> io::Result<FoundDocument> {
        self.read()
    }
}
