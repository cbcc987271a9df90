//! Which methods a server has, for rules that are to be about some of them.

use anyhow::{Context, ensure};
use prost::Message;
use prost_types::FileDescriptorSet;

use crate::config::Allow;

/// Looks whether each rule is about a method that is served: one that is misspelt would restrict nothing, in silence.
///
/// `names` are the services, and `descriptors` say which methods they have; of a service that none describes any may be named.
///
/// # Errors
/// A rule that is about none, with the methods that there are.
pub(crate) fn check_rules(
    rules: &[Allow],
    names: &[&str],
    descriptors: &[&'static [u8]],
) -> anyhow::Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    let methods = methods(names, descriptors)?;
    for rule in rules {
        let is_about = |method: &String| {
            let of_any = method.ends_with('/') && rule.method.to_string().starts_with(method);
            of_any || rule.is_about(method)
        };
        ensure!(
            methods.iter().any(is_about),
            "tls.allow: {:?} is about no method of this server; it has {}",
            rule.method.to_string(),
            methods.join(", ")
        );
    }
    Ok(())
}

/// `package.Service/Method` of each; `package.Service/` of a service that no descriptor has.
fn methods(names: &[&str], descriptors: &[&'static [u8]]) -> anyhow::Result<Vec<String>> {
    let ours = [
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let mut methods = Vec::new();
    for set in descriptors.iter().chain(&ours) {
        let set = FileDescriptorSet::decode(*set).context("cannot read the descriptors")?;
        for file in &set.file {
            for service in &file.service {
                let full = format!("{}.{}", file.package(), service.name());
                let is_ours = names.contains(&&*full) || full.starts_with("grpc.");
                let of_service = service.method.iter().filter(|_| is_ours);
                methods.extend(of_service.map(|method| format!("{full}/{}", method.name())));
            }
        }
    }
    for name in names {
        let beginning = format!("{name}/");
        if !methods.iter().any(|method| method.starts_with(&beginning)) {
            methods.push(beginning);
        }
    }
    methods.sort_unstable();
    methods.dedup();
    Ok(methods)
}

#[cfg(test)]
mod tests {
    use super::{Allow, check_rules};

    fn check(method: &str) -> Result<(), String> {
        let rule = Allow {
            method: method.parse().expect("a pattern"),
            callers: Vec::new(),
        };
        let names = ["helloworld.Greeter", "undescribed.Service"];
        let descriptors = [proto::DESCRIPTORS];
        check_rules(&[rule], &names, &descriptors).map_err(|error| error.to_string())
    }

    #[test]
    fn a_rule_about_nothing_that_is_served_is_refused_with_what_is() {
        for method in [
            "*",
            "helloworld.*",
            "helloworld.Greeter/*",
            "helloworld.Greeter/SayHello",
            "undescribed.Service/*",
            "undescribed.Service/Anything",
            "grpc.*",
            "grpc.health.v1.Health/Check",
        ] {
            check(method).expect(method);
        }
        for misspelt in [
            "helloworld.Greeter",
            "helloworld.Greeter/SayHelo",
            "helloworld.greeter/*",
            "helloworld.Greeters/*",
            "user.v1.UserService/*",
            "grpc.helth.*",
        ] {
            let refused = check(misspelt).expect_err(misspelt);
            assert!(
                refused.contains(misspelt) && refused.contains("helloworld.Greeter/SayHello"),
                "{refused}"
            );
        }
    }
}
