//! A live instance's hold on the registry, put back whenever it is lost. Written once, over any [`Store`].
//!
//! ```text
//!              ┌──────────────── lost ───────────────┐
//!              ▼                                     │
//! start ─▶ Retrying ──────────── held ─────────▶ Held / Draining ── deregister ─▶ Deregistered
//!              │                                     │
//!              └──▶ Superseded ◀── another process ─┘
//! ```

mod asked;
mod keeper;

use std::{sync::Arc, time::Duration};

use tokio::{
    select,
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};

use self::{
    asked::Asked,
    keeper::{Keeper, Wish},
};
use crate::{Claim, Incarnation, Instance, Status, Store, StoreError, intent::IntentFollower};

/// How a registration stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistrationState {
    /// Callers can see the instance.
    Held {
        /// The incarnation that holds it: ours.
        holder: Incarnation,
        /// Since when.
        since: Instant,
    },
    /// The instance is not in the registry, or not known to be, and is being put there.
    Retrying {
        /// Since when.
        since: Instant,
        /// How many tries have failed since then.
        attempts: u32,
        /// Why the last one failed, or why the hold was lost.
        cause: Arc<str>,
    },
    /// The instance is in the registry, and says there that it wants nothing new; or somebody has taken it out since, and
    /// it is not put back.
    Draining,
    /// Another process holds the instance's id: one that was started later, or any, where
    /// [only an absent one](crate::Registry::register_if_absent) was to be held. This registration has ended.
    Superseded {
        /// Who, as far as the registry tells.
        holder: Arc<str>,
    },
    /// Given up, as asked; this registration has ended.
    Deregistered,
}

impl RegistrationState {
    /// What [`name`](Self::name) may say.
    pub const NAMES: [&str; 5] = ["held", "retrying", "draining", "superseded", "deregistered"];

    /// Which one it is, in a word: `held`, `retrying`, `draining`, `superseded` or `deregistered`.
    pub fn name(&self) -> &'static str {
        let [held, retrying, draining, superseded, deregistered] = Self::NAMES;
        match self {
            Self::Held { .. } => held,
            Self::Retrying { .. } => retrying,
            Self::Draining => draining,
            Self::Superseded { .. } => superseded,
            Self::Deregistered => deregistered,
        }
    }

    /// Whether the instance is in the registry: held, or held and draining.
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Held { .. } | Self::Draining)
    }

    /// Why callers are not given the instance, in words; `None` while they are.
    pub fn problem(&self) -> Option<String> {
        match self {
            Self::Held { .. } => None,
            Self::Retrying {
                since,
                attempts,
                cause,
            } => Some(format!(
                "not registered for {:.1} s, {attempts} tries: {cause}",
                since.elapsed().as_secs_f64()
            )),
            Self::Superseded { holder } => Some(format!(
                "a process that was started later ({holder}) has registered under this instance's id"
            )),
            Self::Draining => Some("draining".to_owned()),
            Self::Deregistered => Some("deregistered".to_owned()),
        }
    }
}

/// A live instance's hold on a registry: held again, for ever, whenever it is lost.
///
/// Made by [`Registry::register`](crate::Registry::register). Dropping it gives the place up as well as that can be
/// done in the background; only [`deregister`](Self::deregister) is certain.
#[derive(Debug)]
pub struct Registration {
    wish: watch::Sender<Wish>,
    state: watch::Receiver<RegistrationState>,
    settled: watch::Receiver<u64>,
    keeper: JoinHandle<Result<(), StoreError>>,
}

impl Registration {
    /// Longest time that [`deregister`](Self::deregister) takes.
    pub const DEREGISTER_BOUND: Duration = Duration::from_secs(10);

    /// Holds an instance, first by that claim, as `holder`.
    pub(crate) fn start(
        store: Arc<dyn Store>,
        intents: Arc<IntentFollower>,
        instance: Instance,
        ttl: Duration,
        claim: Claim,
        holder: Incarnation,
    ) -> Self {
        let asked = Asked::new(intents, instance.id.clone());
        let instance = instance.with_incarnation(holder);
        let starting = RegistrationState::Retrying {
            since: Instant::now(),
            attempts: 0,
            cause: "starting".into(),
        };
        let (wish, wishes) = watch::channel(Wish {
            instance,
            wanted: true,
            version: 0,
        });
        let (states, state) = watch::channel(starting);
        let (settle, settled) = watch::channel(0);
        let keeper = Keeper::new(store, asked, ttl, holder, wishes, states, settle);
        Self {
            wish,
            state,
            settled,
            keeper: tokio::spawn(keeper.keep(claim)),
        }
    }

    /// The instance as its owner wants it to be seen.
    pub fn instance(&self) -> Instance {
        self.wish.borrow().instance.clone()
    }

    /// How the registration stands now.
    pub fn state(&self) -> RegistrationState {
        self.state.borrow().clone()
    }

    /// Follows how the registration stands.
    pub fn states(&self) -> watch::Receiver<RegistrationState> {
        self.state.clone()
    }

    /// Changes what callers see (weight, zone, version, labels, status), in place and without a moment of absence.
    ///
    /// Returns when it is written, or when the first try to write it has failed: then it is tried on. Without a hold it
    /// returns at once, and the next hold has it. Service, id and incarnation stay what they are. Cancellation safe: the
    /// change is made all the same.
    pub async fn update(&self, change: impl FnOnce(Instance) -> Instance + Send) {
        let mut version = 0;
        self.wish.send_modify(|wish| {
            let before = wish.instance.clone();
            wish.instance = Instance {
                service: before.service.clone(),
                id: before.id.clone(),
                incarnation: before.incarnation,
                ..change(before)
            };
            wish.version += 1;
            version = wish.version;
        });
        let (mut settled, mut state) = (self.settled.clone(), self.state.clone());
        // An error means that the keeper has ended: nothing is left to wait for.
        select! {
            _ = settled.wait_for(|settled| *settled >= version) => {}
            _ = state.wait_for(|state| !state.is_held()) => {}
        }
    }

    /// Says in the registry that the instance is to be given nothing new. Like [`update`](Self::update).
    pub async fn drain(&self) {
        self.update(|instance| instance.with_status(Status::Draining))
            .await;
    }

    /// Takes the instance out of the registry and ends.
    ///
    /// Fails when the registry cannot be reached, at once when that is known, and in the end after
    /// [`DEREGISTER_BOUND`](Self::DEREGISTER_BOUND); the instance then goes when its lease does.
    pub async fn deregister(self) -> Result<(), StoreError> {
        let Self {
            wish, mut keeper, ..
        } = self;
        let Instance { service, id, .. } = wish.borrow().instance.clone();
        wish.send_modify(|wish| wish.wanted = false);
        let failed = |source| StoreError::ReleaseFailed {
            service,
            id,
            source,
        };
        match timeout(Self::DEREGISTER_BOUND, &mut keeper).await {
            Ok(Ok(released)) => released,
            Ok(Err(panicked)) => Err(failed(panicked.into())),
            Err(elapsed) => {
                keeper.abort();
                Err(failed(elapsed.into()))
            }
        }
    }
}
