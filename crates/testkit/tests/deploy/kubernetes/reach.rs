//! Who may reach whom.

use k8s_openapi::{
    api::networking::v1::{NetworkPolicy, NetworkPolicyPeer},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{all, pods};

const NAME: &str = "app.kubernetes.io/name";

/// The pods that are run here, by their names, which a selector is about.
fn selected(selector: &LabelSelector) -> Vec<String> {
    let is_selected = |name: &String| {
        let labels = selector.match_labels.iter().flatten();
        let labelled = labels.map(|(key, value)| key == NAME && value == name);
        let expressions = selector.match_expressions.iter().flatten();
        let among = expressions.map(|one| {
            assert_eq!((one.key.as_str(), one.operator.as_str()), (NAME, "In"));
            one.values.iter().flatten().any(|value| value == name)
        });
        labelled.chain(among).all(|holds| holds)
    };
    let names = pods().into_iter().map(|(selector, _)| {
        let labels = selector.match_labels.expect("labels");
        labels[NAME].clone()
    });
    let mut names: Vec<_> = names.filter(is_selected).collect();
    names.sort_unstable();
    names
}

/// Who is let in: a label, of pods of this namespace or of a namespace.
fn peer(peer: &NetworkPolicyPeer) -> String {
    assert!(peer.ip_block.is_none(), "{peer:?}");
    let (whose, selector) = match (&peer.pod_selector, &peer.namespace_selector) {
        (Some(pods), None) => ("pods", pods),
        (None, Some(namespaces)) => ("namespaces", namespaces),
        other => panic!("{other:?}"),
    };
    assert!(selector.match_expressions.is_none(), "{selector:?}");
    let labels: Vec<_> = selector.match_labels.iter().flatten().collect();
    let [(key, value)] = labels[..] else {
        panic!("{whose} with the labels {labels:?}");
    };
    format!("{whose} {key}={value}")
}

fn port(port: Option<&IntOrString>) -> i32 {
    match port {
        Some(IntOrString::Int(port)) => *port,
        other => panic!("{other:?}"),
    }
}

/// Of every rule: its pods, who is let in to them, and where.
fn rules() -> Vec<(String, String, i32)> {
    let mut rules = Vec::new();
    for policy in all::<NetworkPolicy>() {
        let spec = policy.spec.expect("a spec");
        let to = selected(&spec.pod_selector.clone().unwrap_or_default()).join(" ");
        for rule in spec.ingress.into_iter().flatten() {
            let (from, ports) = (rule.from.expect("peers"), rule.ports.expect("ports"));
            for one in &from {
                let at = ports
                    .iter()
                    .map(|of| (to.clone(), peer(one), port(of.port.as_ref())));
                rules.extend(at);
            }
        }
    }
    rules.sort_unstable();
    rules
}

#[test]
fn nobody_is_let_in_who_is_not_named() {
    let policies: Vec<_> = all::<NetworkPolicy>();
    let specs = policies
        .into_iter()
        .map(|policy| policy.spec.expect("a spec"));
    let mut everything = 0;
    for spec in specs {
        let types = spec.policy_types.expect("types");
        assert_eq!(types, ["Ingress"]);
        let everybody = LabelSelector::default();
        let of_all = spec.pod_selector.unwrap_or_default() == everybody;
        assert_eq!(
            of_all,
            spec.ingress.is_none(),
            "who is named is let in to what is named"
        );
        everything += usize::from(of_all);
    }
    assert_eq!(everything, 1);
}

#[test]
fn whoever_may_reach_a_pod_may_reach_it_where_it_listens() {
    const OURS: &str = "pods app.kubernetes.io/part-of=discovery";
    const MEMBERS: &str = "pods app.kubernetes.io/name=etcd";
    const MONITORING: &str = "namespaces kubernetes.io/metadata.name=monitoring";
    let expected = [
        ("client greeter user", MONITORING, "admin"),
        ("etcd", MONITORING, "metrics"),
        ("etcd", MEMBERS, "peer"),
        ("etcd", OURS, "client"),
        ("greeter user", OURS, "grpc"),
    ];
    let listens = |pods: &str, name: &str| {
        let ports = self::pods().into_iter().filter_map(|(selector, pod)| {
            let labels = selector.match_labels.expect("labels");
            let is_meant = pods.split(' ').any(|pod| pod == labels[NAME]);
            is_meant.then(|| super::port(&pod.containers[0], name))
        });
        let mut ports: Vec<_> = ports.collect();
        ports.dedup();
        assert_eq!(ports.len(), 1, "{pods} listen for {name} at {ports:?}");
        ports[0]
    };
    let mut expected: Vec<_> = expected
        .map(|(to, from, name)| (to.to_owned(), from.to_owned(), listens(to, name)))
        .into();
    expected.sort_unstable();
    assert_eq!(rules(), expected);
}
