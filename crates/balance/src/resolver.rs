//! From a target to the instances that answer to it.

use std::sync::Arc;

use registry::{
    Address, DocumentWatch, Freshness, Registry, ServiceName, Snapshot, SnapshotWatch, View,
    backend::fixed::FixedStore,
};

use crate::target::Target;

/// Follows what a target stands for.
pub(crate) struct Resolution {
    watch: SnapshotWatch,
    registry: Registry,
    /// Whether a registry vouches that the instances live.
    pub(crate) registered: bool,
    of: String,
}

/// What a target stands for now.
pub(crate) struct Resolved {
    /// All instances, whether or not they take calls; an error when nothing is known of them.
    pub(crate) instances: Result<Snapshot, Unresolved>,
    pub(crate) freshness: Freshness,
}

/// Why it is not known what a target stands for.
pub(crate) enum Unresolved {
    /// Nothing is known yet, and nothing has failed.
    NotYet,
    /// Nothing is known because of this.
    Failed(Arc<str>),
}

/// Why a target cannot be resolved at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unresolvable {
    /// The channel was given no registry.
    #[error(
        "target {target} names a service, and this channel has no registry to find it in; give it one, or name addresses by static:///HOST:PORT,HOST:PORT"
    )]
    NoRegistry {
        /// The target.
        target: Target,
    },
    /// The target names another kind of registry.
    #[error(
        "target {target} names a registry of another kind than {given}; give the channel that registry, or name the service alone"
    )]
    OtherRegistry {
        /// The target.
        target: Target,
        /// The registries that the channel has.
        given: String,
    },
}

impl Resolution {
    /// Starts to follow `target`, a service by the first of `registries` that has its scheme.
    pub(crate) fn start(target: &Target, registries: &[Registry]) -> Result<Self, Unresolvable> {
        match target {
            Target::Static { addresses, .. } => Ok(Self::fixed(addresses)),
            Target::Service {
                scheme, service, ..
            } => {
                let fits = |registry: &&Registry| {
                    scheme
                        .as_deref()
                        .is_none_or(|s| scheme_of(registry.url()) == s)
                };
                let registry = registries
                    .iter()
                    .find(fits)
                    .ok_or_else(|| unresolvable(target, registries))?;
                let of = format!("{service} in {}", registry.url());
                Ok(Self {
                    watch: registry.watch(service),
                    registry: registry.clone(),
                    registered: true,
                    of,
                })
            }
        }
    }

    fn fixed(addresses: &[Address]) -> Self {
        let service = ServiceName::new("static").expect("a name");
        let registry = Registry::new(FixedStore::new(service.clone(), addresses.iter().cloned()));
        Self {
            watch: registry.watch(&service),
            registry,
            registered: false,
            of: "the list".into(),
        }
    }

    /// Follows what the registry keeps for the service: its service config.
    pub(crate) fn document(&self, service: &ServiceName) -> Option<DocumentWatch> {
        self.registered.then(|| self.registry.document(service))
    }

    /// What the target stands for now.
    pub(crate) fn now(&self) -> Resolved {
        Resolved::from(self.watch.view())
    }

    /// Waits for a change. Cancellation safe.
    pub(crate) async fn changed(&mut self) -> Resolved {
        let view = self.watch.changed().await;
        Resolved::from(view)
    }

    /// That nobody of those `registered` takes calls, for a message.
    pub(crate) fn nobody(&self, registered: usize) -> String {
        match registered {
            0 => format!("there is no instance of {}", self.of),
            1 => format!("the one instance of {} takes no calls", self.of),
            some => format!("none of the {some} instances of {} takes calls", self.of),
        }
    }
}

impl From<View> for Resolved {
    fn from(
        View {
            snapshot,
            freshness,
        }: View,
    ) -> Self {
        let instances = match (snapshot, &freshness) {
            (None, Freshness::Stale { cause, .. }) => Err(Unresolved::Failed(Arc::clone(cause))),
            (None, _) => Err(Unresolved::NotYet),
            (Some(snapshot), _) => Ok(snapshot),
        };
        Self {
            instances,
            freshness,
        }
    }
}

fn scheme_of(url: &str) -> &str {
    url.split_once(':').map_or(url, |(scheme, _)| scheme)
}

fn unresolvable(target: &Target, registries: &[Registry]) -> Unresolvable {
    let target = target.clone();
    if registries.is_empty() {
        return Unresolvable::NoRegistry { target };
    }
    let given = registries
        .iter()
        .map(Registry::url)
        .collect::<Vec<_>>()
        .join(", ");
    Unresolvable::OtherRegistry { target, given }
}
