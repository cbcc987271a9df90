//! One file of the cache. Blocking.

use std::{
    fs::{DirBuilder, OpenOptions},
    io::{self, Read, Write},
    marker::PhantomData,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{libc, unistd::geteuid};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Cache, Kept, UNFINISHED};
use crate::ServiceName;

const VERSION: u32 = 1;
/// A million instances; what is larger is somebody's mistake, in bytes.
const LARGEST: u64 = 512 * 1024 * 1024;

/// What is known of one service, on disk.
#[derive(Debug, Clone)]
pub(super) struct CacheFile<T> {
    path: PathBuf,
    cache: Cache,
    service: ServiceName,
    kept: PhantomData<fn() -> T>,
}

/// Whose it is: before anything else in the file is believed.
#[derive(Deserialize)]
struct Head {
    v: u32,
    registry: String,
    service: String,
}

#[derive(Serialize)]
struct Written<'a, F> {
    v: u32,
    registry: &'a str,
    service: &'a str,
    known: F,
}

#[derive(Deserialize)]
struct Body<F> {
    known: F,
}

impl<T: Kept> CacheFile<T> {
    pub(super) fn new(path: PathBuf, cache: Cache, service: ServiceName) -> Self {
        Self {
            path,
            cache,
            service,
            kept: PhantomData,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is there, if anything; or why it cannot be used.
    pub(super) fn read(&self) -> Result<Option<T>, String> {
        let Some(text) = self.text()? else {
            return Ok(None);
        };
        let head: Head = parse(&text)?;
        let (registry, service) = (&*self.cache.registry, self.service.as_str());
        if head.v != VERSION {
            return Err(format!("it is of version {}, not {VERSION}", head.v));
        }
        if (&*head.registry, &*head.service) != (registry, service) {
            let Head {
                registry, service, ..
            } = head;
            return Err(format!("it is of {service} in {registry}"));
        }
        let body: Body<T::Form> = parse(&text)?;
        T::of_form(&self.service, body.known).map(Some)
    }

    fn text(&self) -> Result<Option<Vec<u8>>, String> {
        let in_words = |error: io::Error| error.to_string();
        // Neither a link nor a pipe that somebody put there can lead us elsewhere or keep us waiting.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&self.path);
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(in_words)?,
        };
        let metadata = file.metadata().map_err(in_words)?;
        if !metadata.is_file() {
            return Err("it is no regular file".into());
        }
        // Whoever else has put it there chooses whom we call.
        let (owner, user) = (metadata.uid(), geteuid().as_raw());
        if owner != user && owner != 0 {
            return Err(format!(
                "it belongs to user {owner}, and this process runs as user {user}"
            ));
        }
        let mut text = Vec::new();
        file.take(LARGEST + 1)
            .read_to_end(&mut text)
            .map_err(in_words)?;
        if text.len() as u64 > LARGEST {
            return Err(format!("it is larger than {LARGEST} bytes"));
        }
        Ok(Some(text))
    }

    /// Puts this in place of what was there.
    pub(super) fn write(&self, known: &T) -> io::Result<()> {
        let written = Written {
            v: VERSION,
            registry: &self.cache.registry,
            service: self.service.as_str(),
            known: known.form(),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(self.path.parent().unwrap_or(&self.path))?;
        self.cache.tidy();
        let (before, after) = UNFINISHED;
        // Of mode 0600, and removed when it cannot be given its name.
        let mut file = tempfile::Builder::new()
            .prefix(before)
            .suffix(after)
            .tempfile_in(&self.cache.directory)?;
        file.write_all(&serde_json::to_vec(&written)?)?;
        file.persist(&self.path)?;
        Ok(())
    }
}

fn parse<F: DeserializeOwned>(text: &[u8]) -> Result<F, String> {
    serde_json::from_slice(text).map_err(|error| error.to_string())
}
