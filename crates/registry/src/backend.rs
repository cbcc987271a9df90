//! The places where instances are kept: one module each, each a [`Store`](crate::Store).

pub mod etcd;
pub mod file;
pub mod fixed;
pub mod memory;
