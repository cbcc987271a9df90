//! The files of a certificate and its key.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context, Result, bail};
use registry::ServiceName;

/// For its owner alone.
const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;

/// Where a certificate and its key are, or will be.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl Pair {
    pub(super) fn of_authority(directory: &Path) -> Self {
        Self::named(directory, "ca")
    }

    pub(super) fn of(directory: &Path, service: &ServiceName) -> Self {
        Self::named(directory, &service.as_str().replace('/', "."))
    }

    fn named(directory: &Path, name: &str) -> Self {
        Self {
            certificate: directory.join(format!("{name}.pem")),
            key: directory.join(format!("{name}-key.pem")),
        }
    }

    /// The file that both would write.
    pub(super) fn shared_with(&self, other: &Self) -> Option<&Path> {
        let others = [&other.certificate, &other.key];
        let shared = [&self.certificate, &self.key]
            .into_iter()
            .find(|own| others.contains(own));
        shared.map(PathBuf::as_path)
    }

    /// The certificate that is there, with its key; nothing where there is neither.
    pub(super) fn read(&self) -> Result<Option<Read>> {
        let (certificate, key) = (read(&self.certificate)?, read(&self.key)?);
        let (there, missing) = match (certificate, key) {
            (Some(certificate), Some(key)) => return Ok(Some(Read { certificate, key })),
            (None, None) => return Ok(None),
            (Some(_), None) => (&self.certificate, &self.key),
            (None, Some(_)) => (&self.key, &self.certificate),
        };
        bail!(
            "{} is there without {}; remove it, or put the other back",
            there.display(),
            missing.display()
        )
    }

    /// Writes both, each whole, in place of what is there. For a moment the key is a new one and the certificate the old
    /// one; whoever follows the files goes on with what he has until they fit.
    pub(super) fn write(&self, certificate: &str, key: &str) -> Result<()> {
        replace(&self.key, key, PRIVATE)?;
        replace(&self.certificate, certificate, PUBLIC)
    }
}

/// What a [`Pair`] holds.
pub(super) struct Read {
    pub(super) certificate: String,
    pub(super) key: String,
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes a file beside its place, and then renames it: whoever reads it sees all of it.
fn replace(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}.tmp", process::id()));
    let written = written_new(Path::new(&unfinished), text, mode)
        .and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        // It may not be there.
        let _ = fs::remove_file(&unfinished);
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn written_new(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
