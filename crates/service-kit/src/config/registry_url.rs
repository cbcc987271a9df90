//! The registry's URL when none is given, and the namespace's place in it.

use std::{
    env,
    path::{Path, PathBuf},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use registry::ServiceName;

/// What stands for itself in a path (RFC 3986: unreserved characters, and the separator).
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The file registry of this user on this machine.
pub(super) fn default_url() -> String {
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    url_for(runtime.as_deref(), nix::unistd::geteuid().as_raw())
}

/// `$XDG_RUNTIME_DIR/discovery`, else `/tmp/discovery-UID`. A relative directory is not one to trust (XDG Base
/// Directory Specification), nor can one that is not Unicode be written into a URL that people read.
fn url_for(runtime: Option<&Path>, uid: u32) -> String {
    let directory = runtime
        .filter(|path| path.is_absolute())
        .and_then(|path| path.join("discovery").into_os_string().into_string().ok())
        .unwrap_or_else(|| format!("/tmp/discovery-{uid}"));
    format!("file://{}", utf8_percent_encode(&directory, PATH))
}

/// `url` with `namespace` for its path, where it is an etcd's and has none.
pub(super) fn with_namespace(url: &str, namespace: &ServiceName) -> String {
    let members = url
        .strip_prefix("etcd://")
        .or_else(|| url.strip_prefix("etcds://"));
    let (before, options) = url.find('?').map_or((url, ""), |at| url.split_at(at));
    match members {
        Some(rest) if path_of(rest).is_empty() => {
            format!("{}/{namespace}{options}", before.trim_end_matches('/'))
        }
        _ => url.to_owned(),
    }
}

fn path_of(after_scheme: &str) -> &str {
    let before_query = after_scheme.split('?').next().unwrap_or_default();
    before_query
        .split_once('/')
        .map_or("", |(_, path)| path)
        .trim_matches('/')
}

#[cfg(test)]
mod tests {
    use super::{Path, ServiceName, url_for, with_namespace};

    #[test]
    fn the_default_is_the_users_own_directory() {
        for (runtime, url) in [
            (Some("/run/user/7"), "file:///run/user/7/discovery"),
            (Some("/run/a b"), "file:///run/a%20b/discovery"),
            (Some("relative"), "file:///tmp/discovery-7"),
            (Some(""), "file:///tmp/discovery-7"),
            (None, "file:///tmp/discovery-7"),
        ] {
            assert_eq!(url_for(runtime.map(Path::new), 7), url);
        }
    }

    #[test]
    fn a_namespace_goes_into_an_etcd_url_that_has_no_path() {
        for (url, expected) in [
            ("etcd://a:1,b:2", "etcd://a:1,b:2/prod"),
            ("etcd://a:1/", "etcd://a:1/prod"),
            ("etcd://a:1/mine", "etcd://a:1/mine"),
            ("etcds://a:1?ca=x", "etcds://a:1/prod?ca=x"),
            ("memory:", "memory:"),
            ("file:///run/discovery", "file:///run/discovery"),
        ] {
            let namespace = ServiceName::new("prod").expect("a namespace");
            assert_eq!(with_namespace(url, &namespace), expected);
        }
    }
}
