//! `loadBalancingConfig` (gRFC A24): a list of policies, of which the first that is known counts.

use serde_json::{Map, Value};

use super::InvalidServiceConfig;
use crate::policy::{Policies, PolicyConfig};

pub(super) fn first_known(
    list: Vec<Map<String, Value>>,
    policies: &Policies,
) -> Result<PolicyConfig, InvalidServiceConfig> {
    let mut unknown = Vec::new();
    for (index, entry) in list.into_iter().enumerate() {
        let path = format!("loadBalancingConfig[{index}]");
        let mut named = entry.into_iter();
        let (Some((name, config)), None) = (named.next(), named.next()) else {
            return Err(InvalidServiceConfig::new(
                path,
                "names not exactly one policy",
            ));
        };
        match policies.config(&name, config) {
            Ok(Some(policy)) => return Ok(policy),
            Ok(None) => unknown.push(name),
            Err(bad) => {
                let at = if bad.path.is_empty() { "" } else { "." };
                return Err(InvalidServiceConfig::new(
                    format!("{path}.{name}{at}{}", bad.path),
                    bad.problem,
                ));
            }
        }
    }
    let problem = format!(
        "knows none of {unknown:?}; the policies are {}",
        policies.names()
    );
    Err(InvalidServiceConfig::new("loadBalancingConfig", problem))
}
