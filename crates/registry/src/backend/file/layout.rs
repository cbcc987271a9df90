//! Where in the registry's directory each thing lies.
//!
//! ```text
//! ROOT/                      created with mode 0700
//!   shop%2Fbasket/           a service, percent-encoded
//!     10.0.0.7:50051.json    an instance: a record, locked by its owner
//!     .lock                  whoever renames or unlinks here holds it
//!     .0123456789abcdef.tmp  a record that is being written, or that a crash left
//!   _service_config/         no service's: none has a name that starts with _
//!     shop%2Fbasket.json     a service's document
//!     .lock                  as above; and a document that is being written is called as a record is
//!   _intent/                 no service's either
//!     shop%2Fbasket/         a service
//!       10.0.0.7:50051.json  what an operator wants of an instance
//!       .lock                as above
//! ```

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::{InstanceId, ServiceName};

/// What cannot stand in a file's name, and the sign that announces it. All else that a name may have stays readable.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'/').add(b'%');
const RECORD: &str = ".json";
const DOCUMENTS: &str = "_service_config";
const INTENTS: &str = "_intent";
const UNFINISHED: &str = ".tmp";
pub(super) const LOCK: &str = ".lock";

fn encode(name: &str) -> String {
    utf8_percent_encode(name, ESCAPED).to_string()
}

pub(super) fn service_directory(root: &Path, service: &ServiceName) -> PathBuf {
    root.join(encode(service.as_str()))
}

/// The service whose directory has that name; none when it is nobody's.
pub(super) fn service_of(directory: &OsStr) -> Option<ServiceName> {
    let directory = directory.to_str()?;
    let name = percent_decode_str(directory).decode_utf8().ok()?;
    let service = ServiceName::new(&name).ok()?;
    // `%66oo` would be a second directory of `foo`.
    (encode(service.as_str()) == directory).then_some(service)
}

pub(super) fn record_name(id: &InstanceId) -> String {
    encode(id.as_str()) + RECORD
}

pub(super) fn documents_directory(root: &Path) -> PathBuf {
    root.join(DOCUMENTS)
}

/// The file of a service's document: with the ending of a record, so that word of it comes, and so that no service has
/// the name of something unfinished.
pub(super) fn document_name(service: &ServiceName) -> String {
    encode(service.as_str()) + RECORD
}

/// The service whose document has that file name.
pub(super) fn document_of(file: &OsStr) -> Option<ServiceName> {
    service_of(OsStr::new(file.to_str()?.strip_suffix(RECORD)?))
}

/// The directory that has one for the intents of each service.
pub(super) fn all_intents_directory(root: &Path) -> PathBuf {
    root.join(INTENTS)
}

pub(super) fn intents_directory(root: &Path, service: &ServiceName) -> PathBuf {
    service_directory(&all_intents_directory(root), service)
}

pub(super) fn is_record(file: &OsStr) -> bool {
    file.to_str().is_some_and(|name| name.ends_with(RECORD))
}

/// The id of the instance whose record has that file name.
pub(super) fn id_of(file: &OsStr) -> Option<InstanceId> {
    InstanceId::new(file.to_str()?.strip_suffix(RECORD)?).ok()
}

/// A new name for a record that is being written.
pub(super) fn unfinished_name() -> String {
    format!(".{:016x}{UNFINISHED}", fastrand::u64(..))
}

pub(super) fn is_unfinished(file: &OsStr) -> bool {
    file.to_str()
        .is_some_and(|name| name.starts_with('.') && name.ends_with(UNFINISHED))
}

/// What makes one file itself, whatever its name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    /// Which file has that name now, if any has.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        or_absent(fs::symlink_metadata(path).map(|metadata| Self::of(&metadata)))
    }
}

/// Absence is an answer, not an error.
pub(super) fn or_absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, path::Path};

    use super::{
        document_name, documents_directory, id_of, intents_directory, is_record, is_unfinished,
        record_name, service_directory, service_of,
    };
    use crate::{InstanceId, ServiceName};

    #[test]
    fn a_service_is_one_directory_and_is_read_back_from_its_name() {
        let service = ServiceName::new("shop/basket").expect("a name");
        let directory = service_directory(Path::new("/r"), &service);
        assert_eq!(directory, Path::new("/r/shop%2Fbasket"));
        assert_eq!(service_of(OsStr::new("shop%2Fbasket")), Some(service));
    }

    #[test]
    fn a_directory_that_no_service_writes_is_no_service() {
        for name in ["%66oo", "a%2", "_intent", "a b", "%2F", "a%2F..", ".."] {
            assert_eq!(service_of(OsStr::new(name)), None, "{name}");
        }
    }

    #[test]
    fn a_document_is_no_service_and_nothing_that_is_cleaned_up() {
        let directory = documents_directory(Path::new("/r"));
        assert_eq!(directory, Path::new("/r/_service_config"));
        assert_eq!(service_of(OsStr::new("_service_config")), None);
        for (service, file) in [
            ("shop/basket", "shop%2Fbasket.json"),
            (".0123456789abcdef.tmp", ".0123456789abcdef.tmp.json"),
            (".lock", ".lock.json"),
        ] {
            let name = document_name(&ServiceName::new(service).expect("a name"));
            assert_eq!(name, file);
            let name = OsStr::new(&name);
            assert!(is_record(name) && !is_unfinished(name));
        }
    }

    #[test]
    fn an_intent_is_no_service_and_no_instance() {
        let service = ServiceName::new("shop/basket").expect("a name");
        let directory = intents_directory(Path::new("/r"), &service);
        assert_eq!(directory, Path::new("/r/_intent/shop%2Fbasket"));
        assert_eq!(service_of(OsStr::new("_intent")), None);
    }

    #[test]
    fn ids_stay_readable_in_file_names() {
        for id in ["[::1]:80", "a-b", ".lock", "host:1"] {
            let id = InstanceId::new(id).expect("an id");
            let name = record_name(&id);
            assert_eq!(name, format!("{id}.json"));
            assert_eq!(id_of(OsStr::new(&name)), Some(id));
        }
    }
}
