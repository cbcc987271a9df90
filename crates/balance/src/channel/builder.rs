//! From a target and its options to a running channel.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use http::{HeaderValue, uri::Authority};
use registry::{Freshness, Registry};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;

use super::{Channel, Inner, Published, Shared, driver::Driver};
use crate::{
    policy::{Policies, PolicyConfig, Queueing},
    resolver::{Resolution, Unresolvable},
    service_config::{InvalidServiceConfig, ServiceConfig},
    subchannel::ConnectivityState,
    target::InvalidTarget,
    transport::{ConnectOptions, KeepAlive},
};

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The target names nothing that can be called.
    #[error(transparent)]
    Target(#[from] InvalidTarget),
    /// The target names nothing that this channel can find.
    #[error(transparent)]
    Unresolvable(#[from] Unresolvable),
    /// The service config is not one.
    #[error("the service config is not usable")]
    ServiceConfig(#[from] InvalidServiceConfig),
    /// There is no policy of that name.
    #[error("there is no policy {name:?}; the policies are {known}")]
    UnknownPolicy {
        /// The name.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// The policy has settings that it cannot do without.
    #[error(
        "the policy {name:?} cannot be used without settings: {problem}; give it by a service config"
    )]
    PolicySettings {
        /// The name.
        name: String,
        /// What is missing.
        problem: String,
    },
}

/// A channel in the making.
#[derive(Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    target: String,
    registries: Vec<Registry>,
    policy: Option<String>,
    service_config: Option<String>,
    policies: Policies,
    connect: ConnectOptions,
}

impl Builder {
    pub(super) fn new(target: String) -> Self {
        Self {
            target,
            registries: Vec::new(),
            policy: None,
            service_config: None,
            policies: Policies::default(),
            connect: ConnectOptions::default(),
        }
    }

    /// Finds services in `registry`. Of several, the first finds those that are named alone, and a target with a
    /// scheme goes to the first of that scheme.
    pub fn registry(mut self, registry: &Registry) -> Self {
        self.registries.push(registry.clone());
        self
    }

    /// Balances by the policy of that name (`pick_first`, `round_robin`), whatever the service config says. Without
    /// either it is `round_robin`.
    pub fn policy(mut self, name: impl Into<String>) -> Self {
        self.policy = Some(name.into());
        self
    }

    /// Makes calls as gRPC's service config says, in JSON.
    pub fn service_config(mut self, json: impl Into<String>) -> Self {
        self.service_config = Some(json.into());
        self
    }

    /// Asks endpoints for signs of life as `keep_alive` says.
    pub fn keep_alive(mut self, keep_alive: KeepAlive) -> Self {
        self.connect = self.connect.with_keep_alive(keep_alive);
        self
    }

    /// Starts to resolve and to connect, and returns at once; calls wait until that is done.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn build(self) -> Result<Channel, BuildError> {
        let target = self.target.parse()?;
        let config = self
            .service_config
            .as_deref()
            .map(|json| ServiceConfig::parse(json, &self.policies))
            .transpose()?
            .unwrap_or_default();
        let policy = match self.policy {
            Some(name) => named(&self.policies, name)?,
            None => match &config.balancing {
                Some(balancing) => balancing.policy.clone(),
                None => named(&self.policies, "round_robin".into())?,
            },
        };
        let resolution = Resolution::start(&target, &self.registries)?;
        let authority =
            Authority::try_from(target.authority()).expect("made of what an authority can have");
        let shared = Arc::new(Shared {
            target,
            authority,
            user_agent: HeaderValue::from_static(concat!(
                "grpc-rust-balance/",
                env!("CARGO_PKG_VERSION")
            )),
            config,
            connect: self.connect,
            published: ArcSwap::from_pointee(Published {
                picker: Arc::new(Queueing),
                endpoints: Arc::default(),
                remarks: HashMap::new(),
                freshness: Freshness::Starting,
            }),
            generation: watch::Sender::new(()),
            state: watch::Sender::new(ConnectivityState::Connecting),
            called: Notify::new(),
        });
        let driver = Driver::new(Arc::clone(&shared), resolution, policy.build());
        let driver = AbortOnDropHandle::new(tokio::spawn(driver.run()));
        Ok(Channel {
            inner: Arc::new(Inner {
                shared,
                _driver: driver,
            }),
        })
    }
}

/// The policy of that name, with what is its settings' default.
fn named(policies: &Policies, name: String) -> Result<PolicyConfig, BuildError> {
    let settings = Value::Object(serde_json::Map::new());
    match policies.config(&name, settings) {
        Ok(Some(policy)) => Ok(policy),
        Ok(None) => Err(BuildError::UnknownPolicy {
            name,
            known: policies.names(),
        }),
        Err(bad) => Err(BuildError::PolicySettings {
            name,
            problem: bad.problem,
        }),
    }
}
