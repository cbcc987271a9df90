//! Why a directory cannot be a registry.

use std::{io, path::PathBuf};

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
