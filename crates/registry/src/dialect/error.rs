//! Why something is no dialect, and why a key with its value is no instance.

use super::{DialectName, LONGEST_VALUE};
use crate::{Cause, InvalidInstance};

/// How much of a foreign key an error repeats: it is for a person to read.
const LONGEST: usize = 80;

/// Why a key with its value is no instance of a service.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It belongs to a service whose name goes on where this one's ends, and is none the worse for that.
    #[error("it is an instance of another service")]
    AnotherService,
    /// What follows the service in the key is nothing that the dialect has there.
    #[error("its key ends with {suffix:?}, which is not of this dialect: {allowed}")]
    InvalidKey {
        /// What follows the service, cut off when it is long.
        suffix: String,
        /// What would do.
        allowed: &'static str,
    },
    /// The value says that it is of a service that cannot have such a key.
    #[error("its value is of the service {name:?}, and its key is not")]
    WrongService {
        /// That service, cut off when its name is long.
        name: String,
    },
    /// The value is longer than any instance's.
    #[error("its value is {bytes} bytes long; an instance's is at most {LONGEST_VALUE}")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// The value is not what the dialect writes.
    #[error("its value is not of this dialect: {0}")]
    InvalidValue(Cause),
    /// There is no address in it.
    #[error("its value has no address")]
    NoAddress,
    /// Its address cannot be called.
    #[error("its address cannot be called: {0}")]
    InvalidAddress(#[from] InvalidInstance),
}

impl DecodeError {
    pub(super) fn invalid_key(suffix: &[u8]) -> Self {
        Self::invalid_key_but(suffix, "a key ends with the instance's id")
    }

    pub(super) fn invalid_key_but(suffix: &[u8], allowed: &'static str) -> Self {
        let text = String::from_utf8_lossy(suffix);
        let suffix = text.chars().take(LONGEST).collect();
        Self::InvalidKey { suffix, allowed }
    }

    pub(super) fn wrong_service(name: &str) -> Self {
        let name = name.chars().take(LONGEST).collect();
        Self::WrongService { name }
    }

    pub(super) fn invalid_value(cause: impl Into<Cause>) -> Self {
        Self::InvalidValue(cause.into())
    }
}

/// Why dialects cannot be used. The text names the value and says what would do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidDialect {
    /// There is no dialect of that name.
    #[error("there is no dialect {0:?}; there are {all}", all = DialectName::list())]
    Unknown(String),
    /// Keys cannot begin with that.
    #[error(
        "{prefix:?} cannot be the prefix of {dialect}: it {problem}; a prefix is at most 253 bytes without ',' and control characters, does not end with '/' and has no segment that starts with '_'"
    )]
    Prefix {
        /// Whose prefix it was to be.
        dialect: DialectName,
        /// The prefix.
        prefix: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No dialect is named at all.
    #[error("no dialect is named; the default is etcd")]
    None,
    /// One dialect is named twice.
    #[error("the dialect {0} is named twice; which one is named first decides who wins")]
    Twice(DialectName),
    /// Two dialects would write the same key.
    #[error("the dialects {0} and {1} would write the same keys; give one of them another prefix")]
    SameKeys(DialectName, DialectName),
}
