//! How instances are written into an etcd that others read too: pure codecs between an instance and a key and value.
//!
//! A [`Dialect`] is what one other system keeps in etcd. All of them have keys of one shape:
//!
//! ```text
//! /microservices/greeter/10.0.0.7:50051        {"id":"10.0.0.7:50051","name":"greeter",…}
//! ╰── prefix ──╯ ╰─────╯ ╰── suffix ──╯        ╰──────────────── value ────────────────╯
//!                service
//! ```
//!
//! A dialect knows neither a lease nor a namespace; whoever keeps the keys adds both. What it is given may have been
//! written by anybody: it is read or refused with a reason ([`DecodeError`]), within bounds, and never panics.
//!
//! ```
//! use registry::{Address, Instance, ServiceName, dialect::{Dialects, DialectName, Slot}};
//!
//! let dialects = Dialects::new([DialectName::Etcd, DialectName::GoZero])?;
//! let greeter = Instance::new(ServiceName::new("greeter")?, Address::new("10.0.0.7:50051")?);
//! let slot = Slot::new(7).expect("it is neither 0 nor too large");
//! let keys: Vec<_> = dialects.written(&greeter, slot).into_iter().map(|written| written.key).collect();
//! assert_eq!(keys, ["greeter/10.0.0.7:50051", "greeter/7"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod codec;
mod error;
pub(crate) mod etcd;
mod go_micro;
mod go_zero;
mod gopherex;
mod grpc_lb;
mod json;
mod kitex;
mod kratos;
mod list;
mod metadata;
mod name;
mod plain;
mod prefix;
mod qsf;
mod slot;

use std::{fmt, str::FromStr};

use self::{codec::Codec, prefix::Prefix};
pub use self::{
    error::{DecodeError, InvalidDialect},
    list::Dialects,
    name::DialectName,
    slot::Slot,
};
use crate::{Instance, ServiceName, Status};

/// The longest value that is looked at, in bytes. An instance takes a few hundred; 64 KiB is what a document may have as
/// well, and keeps somebody who fills keys with as much as etcd takes (1.5 MiB) from filling the memory of all callers.
pub const LONGEST_VALUE: usize = 64 * 1024;

/// One dialect, with what its keys begin with. As text it is its name, and where it has another prefix than its own software
/// `=` and that: `kratos`, `kratos=/shop`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialect {
    name: DialectName,
    prefix: Prefix,
}

/// An instance as it is written into etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The key, less the namespace.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
}

/// With the prefix that the dialect's own software has.
impl From<DialectName> for Dialect {
    fn from(name: DialectName) -> Self {
        let prefix = Prefix::of_default(name.codec().default_prefix());
        Self { name, prefix }
    }
}

impl Dialect {
    /// The same with keys that begin with `prefix/`, or with the service's name when it is empty.
    ///
    /// ```
    /// use registry::{ServiceName, dialect::{Dialect, DialectName}};
    /// let kratos = Dialect::from(DialectName::Kratos);
    /// assert_eq!(kratos.prefix(), "/microservices");
    /// let kratos = kratos.with_prefix("/shop")?;
    /// assert_eq!(kratos.service_prefix(&ServiceName::new("greeter")?), "/shop/greeter/");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_prefix(mut self, prefix: &str) -> Result<Self, InvalidDialect> {
        self.prefix = Prefix::new(self.name, prefix)?;
        Ok(self)
    }

    /// Which one it is.
    pub fn name(&self) -> DialectName {
        self.name
    }

    /// What its keys begin with, less a `/`; empty when that is the service's name.
    pub fn prefix(&self) -> &str {
        self.prefix.as_str()
    }

    /// What all its keys begin with, of whatever service.
    pub(crate) fn root(&self) -> &str {
        self.prefix.root()
    }

    /// What the keys of all instances of a service begin with; those of services whose names go on may begin with it too.
    pub fn service_prefix(&self, service: &ServiceName) -> String {
        self.prefix.root().to_owned() + &self.codec().path(service)
    }

    /// The key and the value of an instance.
    ///
    /// `None` while the instance drains or does not serve, by itself or as an operator wanted, in a dialect that has no
    /// status: all but [`Etcd`](DialectName::Etcd). For those who read it an instance that is there is one that takes calls.
    pub fn encode(&self, instance: &Instance, slot: Slot) -> Option<Written> {
        let codec = self.codec();
        if instance.status != Status::Serving && !codec.has_status() {
            return None;
        }
        let (suffix, value) = codec.encode(instance, slot);
        let key = self.service_prefix(&instance.service) + &suffix;
        Some(Written { key, value })
    }

    /// The instance of `service` that stands at a key, which goes on with `suffix` after
    /// [`service_prefix`](Self::service_prefix).
    pub fn decode(
        &self,
        service: &ServiceName,
        suffix: &[u8],
        value: &[u8],
    ) -> Result<Instance, DecodeError> {
        let suffix = str::from_utf8(suffix).map_err(|_| DecodeError::invalid_key(suffix))?;
        if value.len() > LONGEST_VALUE {
            return Err(DecodeError::TooLong { bytes: value.len() });
        }
        self.codec().decode(service, suffix, value)
    }

    /// The service that a key belongs to, as far as the key tells. `None` for a key of something else.
    pub fn service_of(&self, key: &[u8]) -> Option<ServiceName> {
        let below = str::from_utf8(key).ok()?.strip_prefix(self.root())?;
        self.codec().service_of(below)
    }

    fn codec(&self) -> &'static dyn Codec {
        self.name.codec()
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)?;
        if self.prefix() != self.codec().default_prefix() {
            write!(f, "={}", self.prefix())?;
        }
        Ok(())
    }
}

impl FromStr for Dialect {
    type Err = InvalidDialect;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            None => Ok(Self::from(text.parse::<DialectName>()?)),
            Some((name, prefix)) => Self::from(name.parse::<DialectName>()?).with_prefix(prefix),
        }
    }
}
