//! The backends that the suite runs over.

pub(crate) mod etcd;
pub(crate) mod file;
pub(crate) mod fixed;
pub(crate) mod memory;
