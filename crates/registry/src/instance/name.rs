//! Names that become parts of keys, file names and targets: nothing in them can escape its place.

use std::{fmt, str::FromStr, sync::Arc};

use super::{Address, InvalidInstance};

pub(super) const MAX_BYTES: usize = 253;
const SERVICE: &str = "a service name is at most 253 bytes of segments joined by '/'; a segment is made of A-Z, a-z, 0-9, '.', '_' and '-', is not empty, '.' or '..' and does not start with '_'";
const ID: &str = "an instance id is at most 253 bytes: either host:port, or A-Z, a-z, 0-9, '.', '_' and '-', not '.' or '..' and not starting with '_'";
const ZONE: &str = "a zone is at most 253 bytes of A-Z, a-z, 0-9, '.', '_' and '-', is not '.' or '..' and does not start with '_'";

/// What keeps `text` from being one segment of a name.
fn segment_problem(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("has an empty segment".into());
    }
    if text == "." || text == ".." {
        return Some(format!("has the segment {text:?}"));
    }
    if text.starts_with('_') {
        return Some("has a segment that starts with '_', which is reserved".into());
    }
    let bad = text
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))?;
    Some(format!("contains {bad:?}"))
}

/// What keeps `text` from being any part of an instance.
pub(super) fn size_problem(text: &str) -> Option<String> {
    match text.len() {
        0 => Some("is empty".into()),
        1..=MAX_BYTES => None,
        long => Some(format!("is {long} bytes long")),
    }
}

macro_rules! name {
    ($type:ident) => {
        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidInstance;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }
    };
}

/// A service's name: segments of `[A-Za-z0-9._-]` joined by `/`, at most 253 bytes.
///
/// ```
/// use registry::ServiceName;
/// assert!(ServiceName::new("shop/basket").is_ok());
/// for bad in ["", "/", "a//b", "../etc", "_intent/a", "a b", "café"] {
///     assert!(ServiceName::new(bad).is_err(), "{bad}");
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(Arc<str>);

name!(ServiceName);

impl ServiceName {
    /// The name, or the reason why it cannot be one.
    pub fn new(name: &str) -> Result<Self, InvalidInstance> {
        match size_problem(name).or_else(|| name.split('/').find_map(segment_problem)) {
            None => Ok(Self(name.into())),
            Some(problem) => Err(InvalidInstance::new("service name", name, problem, SERVICE)),
        }
    }
}

/// What tells an instance from the others of its service: `host:port`, or one segment of `[A-Za-z0-9._-]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(Arc<str>);

name!(InstanceId);

impl InstanceId {
    /// The id, or the reason why it cannot be one.
    pub fn new(id: &str) -> Result<Self, InvalidInstance> {
        if size_problem(id).is_none()
            && Address::new(id).is_ok_and(|address| address.port().is_some())
        {
            return Ok(Self(id.into()));
        }
        match size_problem(id).or_else(|| segment_problem(id)) {
            None => Ok(Self(id.into())),
            Some(problem) => Err(InvalidInstance::new("instance id", id, problem, ID)),
        }
    }
}

/// The address; `unix:/run/greeter.sock` as `unix_2frun_2fgreeter.sock`.
impl From<&Address> for InstanceId {
    fn from(address: &Address) -> Self {
        Self(address.to_id())
    }
}

/// Where an instance runs: a data centre, a rack, an availability zone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zone(Arc<str>);

name!(Zone);

impl Zone {
    /// The zone, or the reason why it cannot be one.
    pub fn new(zone: &str) -> Result<Self, InvalidInstance> {
        match size_problem(zone).or_else(|| segment_problem(zone)) {
            None => Ok(Self(zone.into())),
            Some(problem) => Err(InvalidInstance::new("zone", zone, problem, ZONE)),
        }
    }
}

/// Checks `host`, the part of an address before its port, that is not an IP address.
pub(super) fn host_problem(host: &str) -> Option<String> {
    size_problem(host).or_else(|| segment_problem(host))
}
