//! From what a builder was told to a channel that runs.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool},
};

use arc_swap::ArcSwap;
use http::{HeaderValue, uri::Authority};
use registry::Freshness;
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    super::{
        Admission, Channel, InForce, Inner, Published, Shared, conduct::Options,
        config_source::ConfigSource, driver::Driver,
    },
    BuildError, Builder,
};
use crate::{
    policy::{Policies, PolicyConfig, Queueing},
    resolver::Resolution,
    service_config::ServiceConfig,
    subchannel::ConnectivityState,
    target::Target,
    trace::CallTracing,
    transport::{Timers, rpc},
};

/// Which client this is (grpc/grpc `doc/PROTOCOL-HTTP2.md`, "User Agents").
const USER_AGENT: &str = concat!("grpc-rust-balance/", env!("CARGO_PKG_VERSION"));

impl Builder {
    /// Starts to resolve and to connect, and returns at once; calls wait until that is done.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn build(self) -> Result<Channel, BuildError> {
        if let Some(name) = self.taken {
            return Err(BuildError::PolicyNameTaken { name });
        }
        if let Some(error) = self.undescribed {
            return Err(BuildError::Descriptors(error));
        }
        let target: Target = self.target.parse()?;
        let config = self
            .service_config
            .as_deref()
            .map(|json| ServiceConfig::parse(json, &self.policies))
            .transpose()?
            .unwrap_or_default();
        let policy = self.policy.map(|name| named(&self.policies, name));
        let policy = policy.transpose()?;
        let user_agent = user_agent(self.user_agent)?;
        let authority =
            Authority::try_from(target.authority()).expect("made of what an authority can have");
        let connect = self.connect;
        #[cfg(feature = "tls")]
        let connect = match &self.tls {
            Some(tls) => {
                let host = authority.host().trim_matches(['[', ']']);
                connect.with_tls(tls.towards(target.service(), host)?)
            }
            None => connect,
        };
        let options = Options {
            policies: self.policies.clone(),
            policy,
            zone: self.zone,
            idle_timeout: self.idle_timeout,
        };
        // The last that can fail: what has begun to follow a registry is not stopped in mid-read for somebody's mistake.
        let resolution = Resolution::start(&target, &self.registries)?;
        let document = match (&target, self.registry_service_config) {
            (Target::Service { service, .. }, true) => resolution.document(service),
            _ => None,
        };
        let tracing = self
            .tracing
            .map(|tracing| CallTracing::new(tracing, target.to_string().into()));
        let shared = Arc::new(Shared {
            telemetry: self.measuring.calls(&target),
            single_answers: self.single_answers,
            tracing,
            target,
            head: rpc::Head {
                scheme: connect.scheme.clone(),
                authority,
                user_agent,
            },
            has_config: AtomicBool::new(document.is_none()),
            provenance: Arc::default(),
            stats: Arc::default(),
            connect,
            admission: Arc::new(Admission::new(self.max_calls_in_flight)),
            timers: Timers::new(),
            published: ArcSwap::from_pointee(Published {
                in_force: Arc::new(InForce::after(&InForce::default(), config.clone())),
                picker: Arc::new(Queueing),
                policy: options.balancing(&config).policy.shared_name(),
                endpoints: Arc::default(),
                barriers: Vec::new(),
                remarks: HashMap::new(),
                freshness: Freshness::Starting,
                listed: None,
                panicking: false,
            }),
            generation: watch::Sender::new(()),
            state: watch::Sender::new(ConnectivityState::Connecting),
            called: Notify::new(),
            closed: CancellationToken::new(),
        });
        self.measuring.observe(&shared);
        let source = ConfigSource::new(
            self.policies,
            config,
            document,
            Arc::clone(&shared.provenance),
            Arc::clone(&shared.stats),
        );
        let driver = Driver::new(Arc::clone(&shared), resolution, source, options);
        let driver = AbortOnDropHandle::new(tokio::spawn(driver.run()));
        Ok(Channel {
            inner: Arc::new(Inner {
                shared,
                _driver: driver,
            }),
        })
    }
}

/// This library, after the program that calls by it.
fn user_agent(program: Option<String>) -> Result<HeaderValue, BuildError> {
    let library = HeaderValue::from_static(USER_AGENT);
    let Some(program) = program else {
        return Ok(library);
    };
    let said = HeaderValue::from_str(&program).ok();
    let ascii = |said: &HeaderValue| said.to_str().is_ok_and(|said| !said.is_empty());
    match said.filter(ascii) {
        Some(said) => Ok(rpc::before(&said, &library)),
        None => Err(BuildError::UserAgent { program }),
    }
}

/// The policy of that name, with what is its settings' default.
fn named(policies: &Policies, name: String) -> Result<PolicyConfig, BuildError> {
    match policies.by_default(&name) {
        Ok(policy) => Ok(policy),
        Err(None) => Err(BuildError::UnknownPolicy {
            name,
            known: policies.names(),
        }),
        Err(Some(bad)) => Err(BuildError::PolicySettings {
            name,
            problem: bad.problem,
        }),
    }
}
