//! `loadBalancingConfig` (gRFC A24): a policy, and what goes around it.
//!
//! In JSON a wrapper contains its `childPolicy`, and so on to the policy itself; each of these lists is of
//! alternatives, of which the first that is known counts. Read, it is flat: the channel applies the wrappers in an order
//! of its own, so that the one in which they were written does not matter, and each makes sense once.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{
    InvalidServiceConfig, json,
    outlier_detection::OutlierDetection,
    wrappers::{
        Canary, MassLossProtection, PanicThreshold, RandomSubsetting, SlowStart, ZonePreference,
    },
};
use crate::{
    outlier,
    policy::{Policies, PolicyConfig},
};

/// A policy and what goes around it.
///
/// Whatever the order in the JSON, the channel applies: mass loss protection to what the registry says, the masks of health
/// and outlier detection with the panic threshold over them, the subset, the canary's split, the zone's split, the policy,
/// and slow start on what the policy chose.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Balancing {
    pub(crate) policy: PolicyConfig,
    pub(crate) outlier_detection: Option<outlier::Settings>,
    pub(crate) random_subsetting: Option<RandomSubsetting>,
    pub(crate) zone_preference: Option<ZonePreference>,
    pub(crate) canary: Option<Canary>,
    pub(crate) slow_start: Option<SlowStart>,
    pub(crate) panic_threshold: Option<PanicThreshold>,
    pub(crate) mass_loss: Option<MassLossProtection>,
}

impl From<PolicyConfig> for Balancing {
    /// A policy with nothing around it.
    fn from(policy: PolicyConfig) -> Self {
        Self {
            policy,
            outlier_detection: None,
            random_subsetting: None,
            zone_preference: None,
            canary: None,
            slow_start: None,
            panic_threshold: None,
            mass_loss: None,
        }
    }
}

const CHILD_POLICY: &str = "childPolicy";

/// What goes around a policy, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrapper {
    OutlierDetection,
    RandomSubsetting,
    ZonePreference,
    Canary,
    SlowStart,
    PanicThreshold,
    MassLossProtection,
}

impl Wrapper {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "outlier_detection" | "outlier_detection_experimental" => Self::OutlierDetection,
            "random_subsetting" | "random_subsetting_experimental" => Self::RandomSubsetting,
            "zone_preference" => Self::ZonePreference,
            "canary" => Self::Canary,
            "slow_start" => Self::SlowStart,
            "panic_threshold" => Self::PanicThreshold,
            "mass_loss_protection" => Self::MassLossProtection,
            _ => return None,
        })
    }
}

/// Whether that is the name of what goes around a policy.
pub(crate) fn goes_around(name: &str) -> bool {
    Wrapper::named(name).is_some()
}

/// A wrapper where it was found, and its settings.
struct Found {
    wrapper: Wrapper,
    path: String,
    settings: Value,
}

enum Known {
    Policy(PolicyConfig),
    Wrapper(Found),
}

/// Reads the list at `path`, and the lists of children in it down to the policy.
pub(super) fn read(
    path: &str,
    list: Value,
    policies: &Policies,
) -> Result<Balancing, InvalidServiceConfig> {
    let mut around: Vec<Found> = Vec::new();
    let (mut path, mut list) = (path.to_owned(), list);
    let policy = loop {
        let mut inner = match first_known(&path, list, policies)? {
            Known::Policy(policy) => break policy,
            Known::Wrapper(found) => found,
        };
        if let Some(outer) = around.iter().find(|outer| outer.wrapper == inner.wrapper) {
            let problem = format!("is there twice, first as {}; write it once", outer.path);
            return Err(InvalidServiceConfig::new(inner.path, problem));
        }
        list = inner.take_children()?;
        path = format!("{}.{CHILD_POLICY}", inner.path);
        around.push(inner);
    };
    let mut balancing = Balancing::from(policy);
    for found in around {
        balancing.put(found)?;
    }
    Ok(balancing)
}

fn first_known(
    path: &str,
    list: Value,
    policies: &Policies,
) -> Result<Known, InvalidServiceConfig> {
    let mut unknown = Vec::new();
    let entries = json::read::<Vec<Value>>(path, list)?;
    for (index, entry) in entries.into_iter().enumerate() {
        let path = format!("{path}[{index}]");
        let (name, settings) = only_policy(&path, entry)?;
        let path = format!("{path}.{name}");
        if let Some(wrapper) = Wrapper::named(&name) {
            return Ok(Known::Wrapper(Found {
                wrapper,
                path,
                settings,
            }));
        }
        match policies.config(&name, settings) {
            Ok(Some(policy)) => return Ok(Known::Policy(policy)),
            Ok(None) => unknown.push(name),
            Err(bad) => {
                let path = json::join(&path, &bad.path);
                return Err(InvalidServiceConfig::new(path, bad.problem));
            }
        }
    }
    Err(InvalidServiceConfig::new(
        path,
        none_known(&unknown, policies),
    ))
}

fn none_known<T: fmt::Debug>(unknown: &[T], policies: &Policies) -> String {
    format!(
        "knows none of {unknown:?}; the policies are {}",
        policies.names()
    )
}

impl Found {
    /// Takes the list of children out of the settings.
    fn take_children(&mut self) -> Result<Value, InvalidServiceConfig> {
        let settings = self.settings.as_object_mut();
        let children = settings.and_then(|settings| settings.remove(CHILD_POLICY));
        children.ok_or_else(|| {
            let problem = format!("goes around a policy; give it one as its {CHILD_POLICY}");
            InvalidServiceConfig::new(&self.path, problem)
        })
    }
}

impl Balancing {
    fn put(&mut self, found: Found) -> Result<(), InvalidServiceConfig> {
        let Found {
            wrapper,
            path,
            settings,
        } = found;
        match wrapper {
            Wrapper::OutlierDetection => {
                let written: OutlierDetection = json::read(&path, settings)?;
                self.outlier_detection = Some(written.into());
                Ok(())
            }
            Wrapper::RandomSubsetting => read_into(&mut self.random_subsetting, &path, settings),
            Wrapper::ZonePreference => read_into(&mut self.zone_preference, &path, settings),
            Wrapper::Canary => read_into(&mut self.canary, &path, settings),
            Wrapper::SlowStart => read_into(&mut self.slow_start, &path, settings),
            Wrapper::PanicThreshold => read_into(&mut self.panic_threshold, &path, settings),
            Wrapper::MassLossProtection => read_into(&mut self.mass_loss, &path, settings),
        }
    }
}

fn read_into<T: DeserializeOwned>(
    slot: &mut Option<T>,
    path: &str,
    settings: Value,
) -> Result<(), InvalidServiceConfig> {
    *slot = Some(json::read(path, settings)?);
    Ok(())
}

/// Reads `loadBalancingPolicy`, which is deprecated and has no settings: a policy's name in any case.
pub(super) fn read_name(
    name: &str,
    policies: &Policies,
) -> Result<Balancing, InvalidServiceConfig> {
    let path = "loadBalancingPolicy";
    let lower = name.to_ascii_lowercase();
    if goes_around(&lower) {
        let problem = format!("{name} goes around a policy; write it in loadBalancingConfig");
        return Err(InvalidServiceConfig::new(path, problem));
    }
    match policies.config(&lower, Map::new().into()) {
        Ok(Some(policy)) => Ok(policy.into()),
        Ok(None) => Err(InvalidServiceConfig::new(
            path,
            none_known(&[name], policies),
        )),
        Err(bad) => Err(InvalidServiceConfig::new(
            path,
            format!(
                "{name} needs settings, {}; write it in loadBalancingConfig",
                bad.problem
            ),
        )),
    }
}

fn only_policy(path: &str, entry: Value) -> Result<(String, Value), InvalidServiceConfig> {
    let mut policies = json::read::<Map<String, Value>>(path, entry)?.into_iter();
    match (policies.next(), policies.next()) {
        (Some(policy), None) => Ok(policy),
        (None, _) => Err(InvalidServiceConfig::new(path, "names no policy")),
        (Some((one, _)), Some((other, _))) => Err(InvalidServiceConfig::new(
            path,
            format!("names {one} and {other}; write an entry for each"),
        )),
    }
}
