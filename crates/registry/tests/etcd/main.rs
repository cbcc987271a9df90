//! What only etcd can show: its bytes, its leases, its members and what becomes of them.

mod authentication;
mod cache;
mod dialects;
mod documents;
mod errors;
mod faults;
mod format;
mod groups;
mod holds;
mod intents;
mod members;
mod mute;
mod recovery;
mod returns;
mod several_keys;
mod shared;
mod support;
mod tls;
mod watches;
