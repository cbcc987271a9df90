//! The choice for one call.

use std::sync::Arc;

use http::HeaderMap;

use super::{Endpoint, Status, around};
use crate::options::{Affinity, HashKey};

/// What a picker answers for one call.
#[derive(Debug)]
pub enum Pick<'a> {
    /// Use this endpoint.
    Ready(&'a Arc<Endpoint>),
    /// Connect this endpoint, and wait for the next picker.
    Connect(&'a Arc<Endpoint>),
    /// Wait for the next picker.
    Queue,
    /// No endpoint can be had: fail with this, unless the call waits for ready.
    Fail(&'a Status),
    /// Fail with this even a call that waits for ready.
    Drop(&'a Status),
}

/// Why an attempt goes to its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The policy has chosen it.
    Policy,
    /// The call is bound to it.
    Affinity,
    /// The policy has chosen it, and the call avoids it; there was none that it does not avoid.
    NothingBetter,
    /// The policy has chosen it, and the call has waited until one of its streams was free.
    StreamFreed,
}

impl Why {
    /// In a word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Affinity => "affinity",
            Self::NothingBetter => "nothing_better",
            Self::StreamFreed => "stream_freed",
        }
    }
}

/// An immutable choice among endpoints; any number of calls choose at the same time.
pub trait Picker: Send + Sync {
    /// Chooses for one call, without waiting and without a lock.
    ///
    /// When the call [avoids](CallInfo::avoids) what was chosen, it picks again a few times, so that most pickers need
    /// not look; one whose choice is fixed by the call passes over those itself.
    fn pick(&self, call: &CallInfo<'_>) -> Pick<'_>;

    /// Whether it passes over by itself what the call avoids.
    fn passes_over(&self) -> bool {
        false
    }
}

/// What a picker may know of a call.
#[derive(Debug, Clone, Copy)]
pub struct CallInfo<'a> {
    pub(crate) path: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) hash_key: Option<HashKey>,
    pub(crate) affinity: Option<&'a Affinity>,
    /// The endpoints of the call's earlier attempts, by serial.
    pub(crate) tried: &'a [u64],
    /// The call has picked before, and avoids what it got.
    pub(crate) repeated: bool,
    /// Who is new, and is to get some of its share only.
    pub(crate) warming: Option<&'a around::Warming>,
}

impl<'a> CallInfo<'a> {
    /// A call of the method at `path` (`/package.Service/Method`), for tests of a policy.
    pub fn new(path: &'a str, headers: &'a HeaderMap) -> Self {
        Self {
            path,
            headers,
            hash_key: None,
            affinity: None,
            tried: &[],
            repeated: false,
            warming: None,
        }
    }

    /// The same with a hash key.
    #[must_use]
    pub fn with_hash_key(self, key: HashKey) -> Self {
        Self {
            hash_key: Some(key),
            ..self
        }
    }

    /// The method: `/package.Service/Method`.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// The metadata that the call sends.
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// What the caller wants to be hashed, if it says so.
    pub fn hash_key(&self) -> Option<HashKey> {
        self.hash_key
    }

    /// Whether the picker has been asked for this call before, and the call avoids what it was given: a picker that prefers
    /// an endpoint for its few calls in flight would give it again.
    pub fn is_repeated(&self) -> bool {
        self.repeated
    }

    /// Whether the call should go elsewhere if it can: an attempt of it was at the endpoint already, or the endpoint's
    /// connection has died or is suspected to have.
    pub fn avoids(&self, endpoint: &Endpoint) -> bool {
        // Who it is is asked only where something was tried: a pick looks at no more of an endpoint than it has to.
        !endpoint.is_available() || self.tried.iter().any(|tried| *tried == endpoint.serial())
    }
}
