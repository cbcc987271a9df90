//! Why a directory cannot be a registry.

use std::{
    io,
    path::{Path, PathBuf},
};

use nix::{
    libc::EMFILE,
    sys::resource::{Resource, getrlimit},
};

/// Why a directory cannot be a registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It cannot be made, or looked at.
    #[error("cannot use {path} as a registry directory")]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// This process may read there at most.
    #[error(
        "user {user} cannot write to the registry directory {path}: let that user write there, or name another directory (file:///DIRECTORY)"
    )]
    ReadOnly {
        /// The directory, or the one in it that cannot be written to.
        path: PathBuf,
        /// The user id of this process.
        user: u32,
        /// Why.
        source: io::Error,
    },
    /// The disk is full, or this user's or this process's share of it.
    #[error(
        "no room is left in the registry directory {path}: make some, or name another directory (file:///DIRECTORY)"
    )]
    Full {
        /// The directory, or the one in it that was written to.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// This process has as many files open as it may.
    #[error(
        "this process may have {limit} files open and has them, and each registration takes one: raise the limit (ulimit -n, or LimitNOFILE= in a unit of systemd)"
    )]
    TooManyFiles {
        /// The limit in force.
        limit: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// It belongs to somebody who could forge and remove instances in it.
    #[error(
        "the registry directory {path} belongs to user {owner}, and this process runs as user {user}: name a directory of your own (file:///DIRECTORY), or have root own a shared one"
    )]
    ForeignOwner {
        /// The directory.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
        /// The user id of this process.
        user: u32,
    },
    /// Everybody may write there.
    #[error(
        "everybody may write to the registry directory {path}, and so forge and remove instances in it: run chmod o-w on it, or name another (file:///DIRECTORY)"
    )]
    OpenToAll {
        /// The directory.
        path: PathBuf,
    },
}

impl FileError {
    /// Why nothing could be written to a directory.
    pub(super) fn of_writing(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly {
                path,
                user: nix::unistd::geteuid().as_raw(),
                source,
            },
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::Full { path, source },
            _ => Self::Unusable { path, source },
        }
    }
}

/// Says of an error with a directory that was written to which directory that is, and what would do. What is no word of the
/// kernel's says so itself.
pub(super) fn of_writing(path: &Path, error: io::Error) -> io::Error {
    let error = of_opening(error);
    if error.raw_os_error().is_none() {
        return error;
    }
    io::Error::new(error.kind(), FileError::of_writing(path, error))
}

/// Says what would do when no file can be opened any more; leaves any other error as it is.
pub(super) fn of_opening(error: io::Error) -> io::Error {
    if error.raw_os_error() != Some(EMFILE) {
        return error;
    }
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    let source = error;
    io::Error::other(FileError::TooManyFiles { limit, source })
}

#[cfg(test)]
mod tests {
    use std::{io, path::Path};

    use nix::libc;

    use super::{FileError, of_writing};
    use crate::one_line;

    #[test]
    fn what_the_kernel_says_of_a_directory_is_told_with_its_name_and_what_would_do() {
        for (code, says) in [
            (libc::EACCES, ["cannot write", "let that user write"]),
            (libc::EROFS, ["cannot write", "Read-only file system"]),
            (libc::ENOSPC, ["no room", "make some"]),
            (libc::EDQUOT, ["no room", "make some"]),
            (libc::EFBIG, ["no room", "make some"]),
            (libc::EIO, ["cannot use", "Input/output error"]),
        ] {
            let error = io::Error::from_raw_os_error(code);
            let message = one_line(&of_writing(Path::new("/run/discovery"), error));
            assert!(
                message.contains("/run/discovery") && says.iter().all(|s| message.contains(s)),
                "{message}"
            );
        }
    }

    #[test]
    fn what_has_been_explained_is_left_as_it_is() {
        let ours = FileError::OpenToAll {
            path: "/run/discovery".into(),
        };
        let text = ours.to_string();
        let error = of_writing(Path::new("/run/discovery/greeter"), io::Error::other(ours));
        assert_eq!(one_line(&error), text);
    }
}
