//! The files of programs that these tests do not run: whether each names what the others have.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    fields::{Collector, DataSource, DataSources, Pipeline, Providers, Signal, read},
    text,
};

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&text(name)).expect(name)
}

fn keys(of: &Value) -> BTreeSet<String> {
    let object = of.as_object().expect("a mapping");
    object.keys().cloned().collect()
}

fn texts(of: &Value) -> Vec<&str> {
    let list = of.as_array().expect("a list");
    list.iter()
        .map(|one| one.as_str().expect("a text"))
        .collect()
}

fn word(of: &Value) -> &str {
    of.as_str().unwrap_or_else(|| panic!("no text: {of}"))
}

/// Host and port of an address or URL.
fn place(address: &str) -> (&str, &str) {
    let address = address.trim_start_matches("http://");
    address.rsplit_once(':').expect("a port")
}

/// The containers that belong to the profile.
fn observing() -> BTreeSet<String> {
    let compose = yaml("../../docker-compose.yml");
    let services = compose["services"].as_object().expect("services");
    let of_the_profile = services
        .iter()
        .filter(|(_, service)| texts_or_none(&service["profiles"]).contains(&"observability"));
    of_the_profile.map(|(name, _)| name.clone()).collect()
}

fn texts_or_none(of: &Value) -> Vec<&str> {
    if of.is_null() { Vec::new() } else { texts(of) }
}

#[test]
fn the_collector_s_pipelines_are_made_of_what_it_has_and_leave_nothing_out() {
    let written = yaml("collector.yml");
    let collector: Collector = read("collector.yml");
    let pipelines = collector.service.pipelines;
    assert!(pipelines.keys().eq([&Signal::Metrics, &Signal::Traces]));
    let used = |of: fn(&Pipeline) -> &Vec<String>| {
        let all = pipelines.values().flat_map(of).cloned();
        all.collect::<BTreeSet<_>>()
    };
    for (kind, used) in [
        ("receivers", used(|pipeline| &pipeline.receivers)),
        ("processors", used(|pipeline| &pipeline.processors)),
        ("exporters", used(|pipeline| &pipeline.exporters)),
    ] {
        assert_eq!(used, keys(&written[kind]), "{kind}");
    }
    for pipeline in pipelines.values() {
        // Before anything is kept.
        assert_eq!(pipeline.processors[0], "memory_limiter");
    }
    let limits = collector.processors.memory_limiter;
    assert!(limits.spike_limit_percentage < limits.limit_percentage);
    assert!(limits.limit_percentage <= 100);
}

#[test]
fn services_send_where_the_collector_listens_and_it_sends_where_jaeger_does() {
    let collector: Collector = read("collector.yml");
    let compose = yaml("../../docker-compose.yml");
    let said = word(&compose["x-service-environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]);
    let default = said.trim_start_matches("${OTEL_EXPORTER_OTLP_ENDPOINT-");
    let (host, port) = place(default.trim_end_matches('}'));
    assert_eq!(host, "collector");
    let listens = collector.receivers.otlp.protocols;
    assert_eq!(place(&listens.grpc.endpoint), ("0.0.0.0", port));
    // OTLP's own ports.
    assert_eq!(place(&listens.http.endpoint), ("0.0.0.0", "4318"));
    assert_eq!(
        place(&collector.exporters.jaeger.endpoint),
        ("jaeger", "4317")
    );
    assert!(observing().is_superset(&["collector", "jaeger"].map(str::to_owned).into()));
}

#[test]
fn every_data_source_is_a_container_and_grafana_finds_the_dashboards() {
    let sources: DataSources = read("grafana/datasources.yml");
    assert_eq!(sources.api_version, 1);
    for source in &sources.datasources {
        let (host, _) = place(&source.url);
        assert!(observing().contains(host), "{source:?}");
    }
    let of = |source: fn(&DataSource) -> &str| {
        let all = sources.datasources.iter().map(source);
        all.collect::<BTreeSet<_>>().len()
    };
    for different in [of(|source| &source.name), of(|source| &source.uid)] {
        assert_eq!(different, sources.datasources.len());
    }
    let defaults = sources.datasources.iter();
    let defaults = defaults.filter(|source| source.is_default == Some(true));
    assert_eq!(defaults.count(), 1);

    let providers: Providers = read("grafana/dashboards.yml");
    assert_eq!(providers.api_version, 1);
    let folder = &providers.providers[0].options.path;
    let compose = yaml("../../docker-compose.yml");
    let mounted = texts(&compose["services"]["grafana"]["volumes"]);
    let here = format!("./deploy/observability/grafana/dashboards:{folder}:ro");
    assert!(mounted.contains(&here.as_str()), "{mounted:?}");
}

#[test]
fn prometheus_scrapes_every_service_that_is_ours_once() {
    let compose = yaml("../../docker-compose.yml");
    let services = compose["services"].as_object().expect("services");
    // What is run once and ends has nothing to scrape.
    let ours = services.iter().filter(|(_, service)| {
        !service["environment"]["DISCOVERY__REGISTRY__URL"].is_null() && service["restart"] != "no"
    });
    let mut ours: Vec<_> = ours.map(|(name, _)| name.as_str()).collect();
    let prometheus = yaml("prometheus.yml");
    let jobs = prometheus["scrape_configs"].as_array().expect("jobs");
    let mut scraped = Vec::new();
    let (members, jobs): (Vec<_>, Vec<_>) = jobs
        .iter()
        .partition(|job| !job["static_configs"].is_null());
    for job in jobs {
        let name = word(&job["job_name"]);
        assert_eq!(texts(&job["dns_sd_configs"][0]["names"]), [name]);
        scraped.push(name);
    }
    ours.sort_unstable();
    scraped.sort_unstable();
    assert_eq!(scraped, ours);

    let listens = word(&compose["x-etcd-environment"]["ETCD_LISTEN_METRICS_URLS"]);
    let (_, port) = place(listens);
    let names = services.keys().filter(|name| name.starts_with("etcd-"));
    let expected: Vec<_> = names.map(|name| format!("{name}:{port}")).collect();
    let [members] = members[..] else {
        panic!("{members:?}");
    };
    assert_eq!(word(&members["job_name"]), "etcd");
    assert_eq!(texts(&members["static_configs"][0]["targets"]), expected);
}
