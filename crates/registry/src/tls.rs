//! Certificates, keys and authorities: read from files that change, and who a certificate says its owner is.
//!
//! Whoever secures connections has these questions, whatever is spoken on them: the etcd backend here, channels and servers in
//! the crates above.

mod credentials;
mod derived;
mod files;
mod followed;
mod newest;
mod owner;
mod spiffe;
mod validity;

pub use credentials::{Credentials, InvalidCredentials, Pem};
pub use derived::Derived;
pub use files::CredentialFiles;
pub use followed::Followed;
pub use spiffe::{InvalidSpiffeId, SpiffeId, TrustDomain};
pub use validity::Validity;
