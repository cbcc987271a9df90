//! The manifests, and what they say of the binaries.

mod etcd;
mod fields;
mod reach;

use std::{collections::BTreeSet, fs, time::Duration};

use k8s_openapi::{
    Resource,
    api::{
        apps::v1::{Deployment, StatefulSet},
        core::v1::{Container, Namespace, PodSpec, Probe},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::binaries::{Configured, bytes, deployed};

/// What a container is of ours, by the name of its image: the binary of that name.
const BINARIES: [&str; 3] = ["greeter-server", "user-service", "greeter-client"];
/// The image of the operator's command line, which is asked by `kubectl exec`.
const COMMAND_LINE: &str = "discovery";

fn text(name: &str) -> String {
    fs::read_to_string(deployed(&format!("kubernetes/{name}"))).expect(name)
}

fn documents(name: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn kustomization() -> Value {
    documents("kustomization.yaml").swap_remove(0)
}

fn texts<'a>(of: &'a Value, key: &str) -> Vec<&'a str> {
    let list = of[key].as_array().expect(key).iter();
    list.map(|item| item.as_str().expect("text")).collect()
}

/// All that is applied.
fn resources() -> Vec<Value> {
    let kustomization = kustomization();
    let names = texts(&kustomization, "resources");
    names.into_iter().flat_map(documents).collect()
}

/// Those of one kind.
fn all<T: Resource + DeserializeOwned>() -> Vec<T> {
    let of_kind = resources()
        .into_iter()
        .filter(|resource| resource["kind"] == T::KIND);
    of_kind
        .map(|resource| serde_json::from_value(resource).expect("it is one"))
        .collect()
}

#[test]
fn kustomize_is_given_every_file_there_is() {
    let kustomization = kustomization();
    let allowed = [
        "apiVersion",
        "kind",
        "namespace",
        "labels",
        "resources",
        "images",
    ];
    for key in kustomization.as_object().expect("a map").keys() {
        assert!(allowed.contains(&key.as_str()), "{key}");
    }
    assert_eq!(kustomization["kind"], "Kustomization");
    assert_eq!(
        kustomization["apiVersion"],
        "kustomize.config.k8s.io/v1beta1"
    );
    let given: BTreeSet<_> = texts(&kustomization, "resources").into_iter().collect();
    let files = fs::read_dir(deployed("kubernetes")).expect("a directory");
    let names = files.map(|file| {
        file.expect("a file")
            .file_name()
            .into_string()
            .expect("text")
    });
    let names: BTreeSet<_> = names.filter(|name| name != "kustomization.yaml").collect();
    assert_eq!(given, names.iter().map(String::as_str).collect());
    let namespaces: Vec<_> = all::<Namespace>();
    let namespace = namespaces[0].metadata.name.as_deref();
    assert_eq!(kustomization["namespace"].as_str(), namespace);
}

/// The pods that are run, with the labels that they are selected by.
fn pods() -> Vec<(LabelSelector, PodSpec)> {
    let deployments = all::<Deployment>().into_iter().map(|deployment| {
        let spec = deployment.spec.expect("a spec");
        (spec.selector, spec.template)
    });
    let sets = all::<StatefulSet>().into_iter().map(|set| {
        let spec = set.spec.expect("a spec");
        (spec.selector, spec.template)
    });
    let pods = deployments.chain(sets).map(|(selector, template)| {
        let labels = template.metadata.expect("labels").labels;
        assert_eq!(selector.match_labels, labels);
        (selector, template.spec.expect("a spec"))
    });
    pods.collect()
}

/// Our containers, each with its pod.
fn ours() -> Vec<(PodSpec, Container)> {
    let of_pod = |(_, pod): (_, PodSpec)| {
        let containers = pod.containers.clone().into_iter();
        containers.map(move |container| (pod.clone(), container))
    };
    let is_ours = |(_, container): &(_, Container)| {
        let image = container.image.as_deref();
        image.is_some_and(|image| BINARIES.contains(&image))
    };
    let ours: Vec<_> = pods()
        .into_iter()
        .flat_map(of_pod)
        .filter(is_ours)
        .collect();
    assert_eq!(ours.len(), BINARIES.len());
    ours
}

/// The variables of a container: what comes from the pod or from a secret is what one there may have.
fn environment(container: &Container) -> Vec<(String, String)> {
    let variables = container.env.iter().flatten().map(|variable| {
        let name = variable.name.clone();
        let value = match name.as_str() {
            "POD_IP" => "10.0.0.7".to_owned(),
            "DISCOVERY__STORAGE__URL" => "postgres://user:secret@postgres:5432/users".to_owned(),
            _ => variable.value.clone().unwrap_or_default(),
        };
        (name, value.replace("$(POD_IP)", "10.0.0.7"))
    });
    variables.collect()
}

fn configured(container: &Container) -> Configured {
    let binary = container.image.as_deref().expect("an image");
    Configured::of(&[binary], &environment(container))
}

fn port(container: &Container, name: &str) -> i32 {
    let mut ports = container.ports.iter().flatten();
    let port = ports.find(|port| port.name.as_deref() == Some(name));
    port.unwrap_or_else(|| panic!("no port {name}"))
        .container_port
}

#[test]
fn variables_and_ports_are_those_of_the_binaries() {
    for (_, container) in ours() {
        let configured = configured(&container);
        let admin = configured.address("admin");
        assert!(admin.ip().is_unspecified(), "{admin}");
        assert_eq!(i32::from(admin.port()), port(&container, "admin"));
        if container.name != "greeter-client" {
            let listens = configured.address("server");
            assert!(listens.ip().is_unspecified(), "{listens}");
            assert_eq!(i32::from(listens.port()), port(&container, "grpc"));
            let told = format!("10.0.0.7:{}", listens.port());
            assert_eq!(configured.text("server", "advertise"), told);
        }
    }
}

#[test]
fn a_variable_that_no_binary_knows_would_be_found() {
    let (_, container) = ours().swap_remove(0);
    let mut variables = environment(&container);
    variables.push(("DISCOVERY__SERVER__LISTENS".into(), "0.0.0.0:1".into()));
    let binary = container.image.expect("an image");
    let asked = std::panic::catch_unwind(|| Configured::of(&[&binary], &variables));
    assert!(asked.is_err(), "DISCOVERY__SERVER__LISTENS");
}

#[test]
fn every_image_is_a_stage_of_the_dockerfile_in_this_version() {
    let dockerfile = fs::read_to_string(deployed("Dockerfile")).expect("a Dockerfile");
    let kustomization = kustomization();
    let images = kustomization["images"].as_array().expect("images");
    let named: BTreeSet<_> = images.iter().map(|image| image["name"].as_str()).collect();
    let ours: BTreeSet<_> = BINARIES.into_iter().chain([COMMAND_LINE]).collect();
    assert_eq!(named, ours.iter().copied().map(Some).collect());
    for image in images {
        let name = image["name"].as_str().expect("text");
        assert!(dockerfile.contains(&format!("AS {name}\n")), "{name}");
        assert_eq!(image["newTag"], env!("CARGO_PKG_VERSION"), "{name}");
    }
    let compose = fs::read_to_string(deployed("../docker-compose.yml")).expect("a file");
    for (_, pod) in pods() {
        let image = pod.containers[0].image.clone().expect("an image");
        let is_composed = compose.contains(&format!(":-{image}}}"));
        assert!(is_composed || ours.contains(image.as_str()), "{image}");
    }
}

/// The port of a probe over HTTP, and its path.
fn asks(probe: Option<&Probe>) -> (IntOrString, String) {
    let get = probe.and_then(|probe| probe.http_get.clone());
    let get = get.expect("a probe over HTTP");
    (get.port, get.path.expect("a path"))
}

#[test]
fn probes_ask_the_admin_page_and_pods_have_time_to_end() {
    for (pod, container) in ours() {
        let admin = IntOrString::String("admin".into());
        for (probe, path) in [
            (&container.startup_probe, "/healthz"),
            (&container.liveness_probe, "/healthz"),
            (&container.readiness_probe, "/readyz"),
        ] {
            assert_eq!(asks(probe.as_ref()), (admin.clone(), path.to_owned()));
        }
        let grace = pod.termination_grace_period_seconds.expect("a time");
        let slept = slept_before_the_end(&container);
        assert!(slept > 0, "{}", container.name);
        let drained = match &*container.name {
            "greeter-client" => Duration::ZERO,
            _ => configured(&container).ends_within(),
        };
        let needed = slept.unsigned_abs() + drained.as_secs();
        assert!(grace.unsigned_abs() > needed, "{grace} s, {needed} s");
    }
}

/// For how many seconds a container goes on before it is told to end: without a shell, which our images need not have.
fn slept_before_the_end(container: &Container) -> i64 {
    let lifecycle = container.lifecycle.clone();
    let before = lifecycle.and_then(|lifecycle| lifecycle.pre_stop);
    let sleep = before.and_then(|handler| handler.sleep);
    sleep
        .unwrap_or_else(|| panic!("{} has no sleep in preStop", container.name))
        .seconds
}

#[test]
fn what_messages_may_take_fits_into_the_memory_of_a_pod() {
    for (_, container) in ours() {
        if container.name == "greeter-client" {
            continue;
        }
        let limits = container.resources.clone().and_then(|all| all.limits);
        let limit = limits.and_then(|limits| limits.get("memory").cloned());
        let limit = limit.expect("a limit").0;
        configured(&container).messages_fit_into(bytes(&limit));
    }
}

#[test]
fn nobody_runs_as_root_or_writes_to_its_image_and_zones_are_spread_over() {
    let hardened = |container: &Container| {
        let context = container.security_context.clone().expect("a context");
        assert_eq!(context.allow_privilege_escalation, Some(false));
        assert_eq!(context.read_only_root_filesystem, Some(true));
        let dropped = context
            .capabilities
            .and_then(|capabilities| capabilities.drop);
        assert_eq!(dropped, Some(vec!["ALL".to_owned()]));
        let limits = container
            .resources
            .clone()
            .and_then(|resources| resources.limits);
        assert!(limits.is_some_and(|limits| limits.contains_key("memory")));
    };
    for (selector, pod) in pods() {
        let context = pod.security_context.expect("a context");
        assert_eq!(context.run_as_non_root, Some(true));
        let seccomp = context.seccomp_profile.map(|profile| profile.type_);
        assert_eq!(seccomp.as_deref(), Some("RuntimeDefault"));
        assert_eq!(pod.automount_service_account_token, Some(false));
        pod.containers.iter().for_each(hardened);
        let spread = pod.topology_spread_constraints.unwrap_or_default();
        let over: Vec<_> = spread.iter().map(|one| one.topology_key.as_str()).collect();
        assert_eq!(
            over,
            ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
        );
        for one in &spread {
            assert_eq!(one.label_selector.as_ref(), Some(&selector));
        }
    }
}

#[test]
fn whoever_calls_others_keeps_whom_it_knows_where_it_may_write() {
    for (pod, container) in ours() {
        if container.name == "greeter-server" {
            continue;
        }
        let configured = configured(&container);
        let place = configured.text("registry", "cache");
        let mut mounts = container.volume_mounts.iter().flatten();
        let mount = mounts.find(|mount| mount.mount_path == place);
        let mount = mount.unwrap_or_else(|| panic!("{}: {place}", container.name));
        let mut volumes = pod.volumes.iter().flatten();
        let volume = volumes.find(|volume| volume.name == mount.name);
        let limit = volume.and_then(|volume| volume.empty_dir.clone()?.size_limit);
        assert!(limit.is_some(), "{}: {volume:?}", container.name);
    }
}

#[test]
fn the_command_line_looks_at_the_registry_that_the_services_have() {
    let pods = pods().into_iter().map(|(_, pod)| pod.containers[0].clone());
    let of_image = |image: &str| {
        let mut found = pods
            .clone()
            .filter(|pod| pod.image.as_deref() == Some(image));
        found.next().unwrap_or_else(|| panic!("no pod of {image}"))
    };
    let url = |image: &str| {
        let environment = environment(&of_image(image));
        let mut urls = environment.into_iter();
        urls.find(|(name, _)| name == "DISCOVERY__REGISTRY__URL")
    };
    assert_eq!(url(COMMAND_LINE), url("greeter-client"));
    assert_eq!(of_image(COMMAND_LINE).args, Some(vec!["watch".to_owned()]));
}

#[test]
fn whoever_runs_more_than_once_is_disrupted_once_at_a_time() {
    let etcd = all::<StatefulSet>().swap_remove(0).spec;
    let etcd = etcd.expect("a spec").selector;
    let budgets: Vec<_> = all::<PodDisruptionBudget>();
    let budgets = budgets
        .into_iter()
        .map(|budget| budget.spec.expect("a spec"));
    let protected: Vec<_> = budgets
        .map(|spec| {
            assert_eq!(spec.max_unavailable, Some(IntOrString::Int(1)));
            // Of etcd a member that is not ready may be about to be, and the next one the majority.
            let of_etcd = spec.selector.as_ref() == Some(&etcd);
            let evicts = spec.unhealthy_pod_eviction_policy.as_deref();
            assert_eq!(evicts, (!of_etcd).then_some("AlwaysAllow"));
            spec.selector.expect("a selector")
        })
        .collect();
    let counts = all::<Deployment>().into_iter().map(|deployment| {
        let spec = deployment.spec.expect("a spec");
        (spec.selector, spec.replicas)
    });
    let sets = all::<StatefulSet>().into_iter().map(|set| {
        let spec = set.spec.expect("a spec");
        (spec.selector, spec.replicas)
    });
    for (selector, replicas) in counts.chain(sets) {
        let is_protected = protected.contains(&selector);
        assert_eq!(is_protected, replicas > Some(1), "{selector:?}");
    }
}
