//! What operators want of a service's instances: a directory with a file for each.

use std::{
    ffi::{OsStr, OsString},
    io,
    sync::Arc,
};

use super::{
    directory::Directory, layout, sight::is_that_file_s, unowned::Unowned, unowned_watch::Looked,
};
use crate::{InstanceId, Intent, Intents, InvalidIntent, Undecodable};

/// Where the intents for the instances of one service are, or would be.
#[derive(Debug, Clone)]
pub(super) struct IntentFiles {
    directory: Arc<Directory>,
    undecodable: Undecodable,
}

impl IntentFiles {
    pub(super) fn new(directory: Directory, undecodable: Undecodable) -> Self {
        let directory = Arc::new(directory);
        Self {
            directory,
            undecodable,
        }
    }

    /// All that are there now. Blocking.
    pub(super) fn read(&self) -> io::Result<Intents> {
        let mut intents = Intents::default();
        for name in self.directory.names()? {
            if layout::is_record(&name)
                && let Some((id, intent)) = self.read_one(&name)?
            {
                intents.set(id, Some(intent));
            }
        }
        Ok(intents)
    }

    /// Whether there is any, were it one that cannot be read. Blocking.
    pub(super) fn is_any(&self) -> io::Result<bool> {
        let names = self.directory.names()?;
        Ok(names.iter().any(|name| layout::is_record(name)))
    }

    /// What a file wants of which instance; `None` when it is gone, and when it is no intent, which is counted.
    fn read_one(&self, name: &OsStr) -> io::Result<Option<(InstanceId, Intent)>> {
        let file = self.file(name.to_owned());
        let path = file.path();
        let path = path.to_string_lossy();
        let skip = |revision: u64, reason: &dyn std::fmt::Display| {
            self.undecodable.skip(&path, revision, reason);
            Ok(None)
        };
        let Some(id) = layout::id_of(name) else {
            return skip(0, &"its name is no instance's id");
        };
        let found = match file.read(Intent::MAX_BYTES) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(error) if is_that_file_s(&error) || error.kind() == io::ErrorKind::InvalidInput => {
                return skip(0, &error);
            }
            Err(error) => return Err(error),
        };
        if found.length > Intent::MAX_BYTES as u64 {
            let bytes = found.length;
            return skip(found.written.0, &InvalidIntent::TooLarge { bytes });
        }
        match Intent::from_json(&found.bytes) {
            Ok(intent) => Ok(Some((id, intent.read_at(path, found.written)))),
            Err(reason) => skip(found.written.0, &reason),
        }
    }

    /// Puts an intent in place of what was there.
    pub(super) async fn set(&self, id: &InstanceId, intent: &Intent) -> io::Result<()> {
        let file = self.file(layout::record_name(id).into());
        file.put(intent.to_json()).await
    }

    /// Removes an intent, if there is one.
    pub(super) async fn delete(&self, id: &InstanceId) -> io::Result<()> {
        self.file(layout::record_name(id).into()).delete().await
    }

    fn file(&self, name: OsString) -> Unowned {
        let directory = Arc::clone(&self.directory);
        Unowned { directory, name }
    }
}

impl Looked for IntentFiles {
    type Seen = Intents;

    fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    fn only(&self) -> Option<OsString> {
        None
    }

    fn look(&self) -> io::Result<Intents> {
        self.read()
    }
}
