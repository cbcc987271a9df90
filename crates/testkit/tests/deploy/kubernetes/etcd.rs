//! The etcd that is run, and who finds it.

use k8s_openapi::{
    api::{apps::v1::StatefulSet, core::v1::Service},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{all, asks, configured, environment, ours, port};

#[test]
fn a_member_of_etcd_is_asked_where_it_answers_before_there_is_a_majority() {
    let set = all::<StatefulSet>().swap_remove(0).spec.expect("a spec");
    assert_eq!(set.pod_management_policy.as_deref(), Some("Parallel"));
    let pod = set.template.spec.expect("a spec");
    let container = &pod.containers[0];
    let metrics = IntOrString::String("metrics".into());
    for (probe, path) in [
        (&container.startup_probe, "/livez"),
        (&container.liveness_probe, "/livez"),
        (&container.readiness_probe, "/readyz"),
    ] {
        assert_eq!(asks(probe.as_ref()), (metrics.clone(), path.to_owned()));
    }
    let listens = environment(container)
        .into_iter()
        .find(|(name, _)| name == "ETCD_LISTEN_METRICS_URLS");
    let url = format!("http://0.0.0.0:{}", port(container, "metrics"));
    assert_eq!(listens.map(|(_, value)| value), Some(url));
}

#[test]
fn the_registry_is_every_member_of_the_etcd_that_is_run() {
    let set = all::<StatefulSet>().swap_remove(0).spec.expect("a spec");
    let service = set.service_name.expect("a service");
    let names = (0..set.replicas.expect("a number")).map(|n| format!("etcd-{n}.{service}:2379"));
    let url = format!("etcd://{}", names.collect::<Vec<_>>().join(","));
    for (_, container) in ours() {
        assert_eq!(configured(&container).text("registry", "url"), url);
    }
    let services = all::<Service>();
    let spec = services[0].spec.clone().expect("a spec");
    assert_eq!(spec.cluster_ip.as_deref(), Some("None"));
    // Members find one another before any of them is ready.
    assert_eq!(spec.publish_not_ready_addresses, Some(true));
    assert_eq!(spec.selector, set.selector.match_labels);
}
