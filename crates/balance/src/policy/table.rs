//! The policies that a channel knows, by the names that a service config has for them.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    Policy, hashing::RequestHash, least_request, maglev, peak_ewma, pick_first, random, ring_hash,
    round_robin, weighted_round_robin,
};

/// Makes policies with settings that have been read.
type Make = Arc<dyn Fn() -> Box<dyn Policy> + Send + Sync>;
/// Reads settings; an error says what is wrong with them.
type Read = Arc<dyn Fn(Value) -> Result<Make, BadSettings> + Send + Sync>;

/// What is wrong with a policy's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadSettings {
    /// Where in the settings, as in `minRingSize`; empty when it is the whole.
    pub(crate) path: String,
    pub(crate) problem: String,
}

/// A policy with its settings, chosen by name.
#[derive(Clone)]
pub(crate) struct PolicyConfig {
    name: Cow<'static, str>,
    settings: Value,
    make: Make,
}

impl PolicyConfig {
    /// The name that it was asked for by.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The same, for who keeps it.
    pub(crate) fn shared_name(&self) -> Cow<'static, str> {
        self.name.clone()
    }

    pub(crate) fn build(&self) -> Box<dyn Policy> {
        (self.make)()
    }

    /// What of a call it hashes, if it does: by the setting that those have for it which hash a header.
    pub(crate) fn request_hash(&self) -> RequestHash {
        let setting = self.settings.get("requestHashHeader").cloned();
        let read = setting.and_then(|setting| serde_json::from_value(setting).ok());
        read.unwrap_or_default()
    }
}

/// Two are the same when they are asked for in the same words.
impl PartialEq for PolicyConfig {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.settings) == (&other.name, &other.settings)
    }
}

impl fmt::Debug for PolicyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PolicyConfig")
            .field(&self.name)
            .field(&self.settings)
            .finish()
    }
}

/// The policies that there are, by name.
#[derive(Clone)]
pub(crate) struct Policies(BTreeMap<Cow<'static, str>, Read>);

impl Policies {
    /// The settings of the policy `name`; `None` when there is none of the name.
    pub(crate) fn config(
        &self,
        name: &str,
        settings: Value,
    ) -> Result<Option<PolicyConfig>, BadSettings> {
        let Some((name, read)) = self.0.get_key_value(name) else {
            return Ok(None);
        };
        Ok(Some(PolicyConfig {
            name: name.clone(),
            make: read(settings.clone())?,
            settings,
        }))
    }

    /// The policy `name` with no settings; an error when there is none of the name, or what it needs to be told.
    pub(crate) fn by_default(&self, name: &str) -> Result<PolicyConfig, Option<BadSettings>> {
        let settings = Value::Object(serde_json::Map::new());
        self.config(name, settings)?.ok_or(None)
    }

    /// Whether there is a policy of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Knows `name` as well.
    fn insert(&mut self, name: impl Into<Cow<'static, str>>, read: Read) {
        self.0.insert(name.into(), read);
    }

    /// Knows as `name` what `make` makes of its settings.
    pub(crate) fn register(
        &mut self,
        name: String,
        make: impl Fn(&Value) -> Result<Box<dyn Policy>, String> + Send + Sync + 'static,
    ) {
        let make = Arc::new(make);
        let read: Read = Arc::new(move |settings| {
            let bad = |problem| BadSettings {
                path: String::new(),
                problem,
            };
            // Made once to see whether the settings are good.
            make(&settings).map_err(bad)?;
            let make = Arc::clone(&make);
            Ok(Arc::new(move || {
                make(&settings).expect("settings that were good before")
            }))
        });
        self.insert(name, read);
    }

    /// All names, in order, for a message.
    pub(crate) fn names(&self) -> String {
        self.0
            .keys()
            .map(AsRef::as_ref)
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Adds a policy whose settings are a `C`.
    fn built_in<C, P>(
        &mut self,
        names: &[&'static str],
        new: impl Fn(&C) -> P + Clone + Send + Sync + 'static,
    ) where
        C: DeserializeOwned + Send + Sync + 'static,
        P: Policy + 'static,
    {
        let read: Read = Arc::new(move |settings| {
            let settings: C = read_settings(settings)?;
            let new = new.clone();
            Ok(Arc::new(move || {
                Box::new(new(&settings)) as Box<dyn Policy>
            }))
        });
        for name in names {
            self.insert(*name, Arc::clone(&read));
        }
    }
}

/// Reads the settings of a policy as a `C`.
pub(crate) fn read_settings<C: DeserializeOwned>(settings: Value) -> Result<C, BadSettings> {
    serde_path_to_error::deserialize(settings).map_err(|error| BadSettings {
        path: match error.path().to_string().as_str() {
            "." => String::new(),
            path => path.to_owned(),
        },
        problem: error.into_inner().to_string(),
    })
}

impl Default for Policies {
    /// Those that come with this crate.
    fn default() -> Self {
        let mut policies = Self(BTreeMap::new());
        policies.built_in(&["pick_first"], pick_first::PickFirst::new);
        policies.built_in(&["round_robin"], round_robin::RoundRobin::new);
        policies.built_in(&["random"], random::Random::new);
        policies.built_in(&["weighted_random"], random::WeightedRandom::new);
        policies.built_in(
            &["least_request", "least_request_experimental"],
            least_request::LeastRequest::new,
        );
        policies.built_in(&["peak_ewma"], peak_ewma::PeakEwma::new);
        policies.built_in(
            &["ring_hash", "ring_hash_experimental"],
            ring_hash::RingHash::new,
        );
        policies.built_in(
            &["weighted_round_robin", "weighted_round_robin_experimental"],
            weighted_round_robin::WeightedRoundRobin::new,
        );
        policies.built_in(&["maglev"], maglev::Maglev::new);
        policies
    }
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
