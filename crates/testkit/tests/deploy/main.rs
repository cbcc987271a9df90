//! What `deploy` says of the binaries, held against the binaries; and whether it is what those read it as who are to run it.

mod admin;
mod binaries;
mod compose;
mod kubernetes;
mod systemd;
