//! `loadBalancingConfig` (gRFC A24): a list of policies, of which the first that is known counts.

use serde_json::{Map, Value};

use super::InvalidServiceConfig;
use crate::policy::PolicyConfig;

pub(super) fn first_known(
    list: Vec<Map<String, Value>>,
) -> Result<PolicyConfig, InvalidServiceConfig> {
    let mut unknown = Vec::new();
    for (index, entry) in list.into_iter().enumerate() {
        let path = format!("loadBalancingConfig[{index}]");
        let mut policies = entry.into_iter();
        let (Some((name, config)), None) = (policies.next(), policies.next()) else {
            return Err(InvalidServiceConfig::new(
                path,
                "names not exactly one policy",
            ));
        };
        match PolicyConfig::parse(&name, config) {
            Ok(Some(policy)) => return Ok(policy),
            Ok(None) => unknown.push(name),
            Err(problem) => {
                return Err(InvalidServiceConfig::new(format!("{path}.{name}"), problem));
            }
        }
    }
    let problem = format!(
        "knows none of {unknown:?}; the policies are {}",
        PolicyConfig::NAMES.join(" and ")
    );
    Err(InvalidServiceConfig::new("loadBalancingConfig", problem))
}
