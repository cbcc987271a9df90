//! The places where instances are kept: one module each, each a [`Store`](crate::Store).

pub mod etcd;
pub mod file;
pub mod fixed;
pub mod memory;

use std::{os::unix::ffi::OsStrExt, path::Path};

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

/// What cannot stand in a URL's path as it is.
const IN_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?');

/// The URL of something at an absolute path, as [`connect`](crate::connect) reads it.
fn path_url(scheme: &str, path: &Path) -> String {
    let path = percent_encode(path.as_os_str().as_bytes(), IN_PATH);
    format!("{scheme}://{path}")
}
