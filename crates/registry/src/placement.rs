//! Where an instance stands in its store, and for how long.

use std::{sync::Arc, time::Duration};

use crate::{Instance, dialect::DialectName};

/// One place in a store that describes an instance. In etcd, an instance has one in each dialect that it is written in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Placement {
    /// The instance as it is described there, which it says itself; its [origin](Instance::origin) is the place.
    pub instance: Arc<Instance>,
    /// Whose form that has; `None` in a store that knows no dialects.
    pub dialect: Option<DialectName>,
    /// What it goes with; `None` in a store without leases, and of a key in etcd that stays until somebody deletes it.
    pub lease: Option<Lease>,
}

/// A lease of etcd's: what stands under it goes when nobody keeps it alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// Its number, which `etcdctl` writes in hexadecimal.
    pub id: u64,
    /// How long it lives after each sign of life, in whole seconds.
    pub ttl: Duration,
    /// How long it lives on without another, in whole seconds; 0 where it has just ended.
    pub remaining: Duration,
}

impl Placement {
    /// That an instance was read, in a store that knows neither dialects nor leases.
    pub fn of(instance: Arc<Instance>) -> Self {
        Self {
            instance,
            dialect: None,
            lease: None,
        }
    }
}
