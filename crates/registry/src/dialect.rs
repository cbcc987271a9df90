//! How instances are written into an etcd that others read too: pure codecs between an instance and a key and value.

pub(crate) mod etcd;
