//! The registry's directory, and whose it may be.

use std::{
    fs::{self, DirBuilder, Metadata},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use super::{FileError, layout::or_absent};

/// The registry's directory, as one user trusts it.
///
/// It can be taken away and made again, by anybody who may write beside it: so it is looked at each time that something
/// is done with what it holds, and not only at the start.
#[derive(Debug, Clone)]
pub(super) struct Root {
    path: PathBuf,
    user: u32,
}

impl Root {
    /// That directory, for the user who runs this process.
    pub(super) fn new(path: PathBuf) -> Self {
        let user = nix::unistd::geteuid().as_raw();
        Self { path, user }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes sure that it is there and may be trusted.
    pub(super) fn prepare(&self) -> Result<(), FileError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .map_err(|source| FileError::of_writing(&self.path, source))?;
        self.check()
    }

    /// Refuses it when it is there and may not be trusted.
    pub(super) fn check(&self) -> Result<(), FileError> {
        // The link counts as much as what it leads to: whoever owns it can lead us elsewhere.
        for metadata in [fs::symlink_metadata(&self.path), fs::metadata(&self.path)] {
            if let Some(found) = or_absent(metadata).map_err(|source| self.unusable(source))? {
                self.check_owner(found.uid())?;
                self.check_mode(&found)?;
            }
        }
        Ok(())
    }

    /// Root's directories are an operator's arrangement; anybody else's let them forge and remove instances.
    fn check_owner(&self, owner: u32) -> Result<(), FileError> {
        if owner == self.user || owner == 0 {
            return Ok(());
        }
        Err(FileError::ForeignOwner {
            path: self.path.clone(),
            owner,
            user: self.user,
        })
    }

    /// Who shares a directory is the operator's choice, but all the world is nobody's. A link's own mode says nothing.
    fn check_mode(&self, found: &Metadata) -> Result<(), FileError> {
        if found.is_symlink() || found.mode() & 0o002 == 0 {
            return Ok(());
        }
        Err(FileError::OpenToAll {
            path: self.path.clone(),
        })
    }

    fn unusable(&self, source: io::Error) -> FileError {
        FileError::Unusable {
            path: self.path.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        os::unix::fs::{MetadataExt, chown},
        path::Path,
        time::Duration,
    };

    use futures_util::StreamExt;

    use super::Root;
    use crate::{
        Address, Claim, Document, HoldRequest, Instance, ServiceName, Status, Store,
        backend::file::FileStore, one_line,
    };

    fn of_user(user: u32) -> Root {
        let path = "/tmp/discovery-1000".into();
        Root { path, user }
    }

    #[test]
    fn a_directory_of_somebody_else_is_refused_by_name_and_owner() {
        let ours = of_user(1000);
        assert!(ours.check_owner(1000).is_ok(), "our own");
        assert!(ours.check_owner(0).is_ok(), "an operator's");
        let refused = ours.check_owner(1001).expect_err("somebody else's");
        let message = refused.to_string();
        assert!(
            message.contains("/tmp/discovery-1000") && message.contains("1001"),
            "{message}"
        );
        assert!(of_user(0).check_owner(1001).is_err(), "root trusts no user");
    }

    /// The directory as it looks to us after another user has put it there: given away where that is allowed, which it is
    /// to root, and else seen with the eyes of another.
    fn foreign(path: &Path) -> Root {
        let mut root = Root::new(path.to_owned());
        if root.user == 0 {
            chown(path, Some(1001), None).expect("root may");
        } else {
            root.user += 1;
        }
        assert_ne!(fs::metadata(path).expect("it is there").uid(), root.user);
        root
    }

    #[tokio::test]
    async fn a_root_that_somebody_else_has_put_there_is_neither_read_nor_written() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let directory = temporary.path().join("greeter");
        fs::create_dir(&directory).expect("a directory");
        let service = ServiceName::new("greeter").expect("a name");
        let address = Address::new("10.0.0.1:1").expect("an address");
        let forged = directory.join("10.0.0.1:1.json");
        fs::write(&forged, r#"{"v":1,"addresses":["10.0.0.1:1"]}"#).expect("a file");
        let holder = File::open(&forged).expect("the file");
        holder.lock().expect("it is free");

        // Opened while it was ours.
        let store = FileStore::at(foreign(temporary.path()), false);
        let request = HoldRequest {
            instance: Instance::new(service.clone(), address),
            ttl: Duration::from_secs(10),
            claim: Claim::First,
        };
        let document = Document::new("{}").expect("a document");
        let mut followed = store.watch_document(&service);
        let (id, intent) = (request.instance.id.clone(), Status::Draining.into());
        let mut intents = store.watch_intents(&service);
        let refusals = [
            store.list(&service).await.err(),
            store.services().await.err(),
            store.hold(request).await.err(),
            store.watch(&service).next().await.expect("an item").err(),
            store.read_document(&service).await.err(),
            store.set_document(&service, document).await.err(),
            store.delete_document(&service).await.err(),
            followed.next().await.expect("an item").err(),
            store.list_intents(&service).await.err(),
            store.set_intent(&service, &id, intent).await.err(),
            store.delete_intent(&service, &id).await.err(),
            intents.next().await.expect("an item").err(),
        ];
        for refusal in refusals {
            let message = one_line(&refusal.expect("it is not to be trusted"));
            assert!(message.contains("belongs to user"), "{message}");
        }
        let left: Vec<_> = fs::read_dir(&directory).expect("it is there").collect();
        assert_eq!(left.len(), 1, "nothing was written: {left:?}");
        for made in ["_service_config", "_intent"] {
            assert!(!temporary.path().join(made).exists());
        }
    }
}
