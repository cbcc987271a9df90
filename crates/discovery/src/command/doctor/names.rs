//! Names that get into each other's way.

use registry::ServiceName;

use super::Finding;

/// A finding for each pair of services of which one's name goes on where the other's ends.
pub(super) fn examine(services: &[ServiceName]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for short in services {
        let goes_on =
            |long: &&ServiceName| long != &short && long.as_str().starts_with(short.as_str());
        let longer: Vec<_> = services
            .iter()
            .filter(goes_on)
            .map(ServiceName::as_str)
            .collect();
        if !longer.is_empty() {
            let found = format!("is how the names of others begin: {}", longer.join(", "));
            findings.push(Finding::fine("name", short.as_str(), found).warning(
                "callers by etcd's Go package before 3.5.10 find those under this name too: update them, or rename one",
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{ServiceName, examine};

    #[test]
    fn a_name_with_which_others_begin_is_told_with_them() {
        let names = ["greeter", "greeter-v2", "greeter/eu", "shop"];
        let services = names.map(|name| ServiceName::new(name).expect("a name"));
        let findings = examine(&services);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].subject, "greeter");
        assert!(
            findings[0].found.ends_with("greeter-v2, greeter/eu"),
            "{findings:?}"
        );
    }
}
