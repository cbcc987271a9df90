//! The files of programs that these tests do not run: whether each names what the others have.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::text;

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
    let collector = yaml("collector.yml");
    let pipelines = collector["service"]["pipelines"]
        .as_object()
        .expect("pipelines");
    assert_eq!(
        keys(&collector["service"]["pipelines"]),
        ["metrics", "traces"].map(str::to_owned).into()
    );
    for kind in ["receivers", "processors", "exporters"] {
        let used = pipelines
            .values()
            .flat_map(|pipeline| texts(&pipeline[kind]));
        let used: BTreeSet<_> = used.map(str::to_owned).collect();
        assert_eq!(used, keys(&collector[kind]), "{kind}");
    }
    for pipeline in pipelines.values() {
        // Before anything is kept.
        assert_eq!(texts(&pipeline["processors"])[0], "memory_limiter");
    }
}

#[test]
fn services_send_where_the_collector_listens_and_it_sends_where_jaeger_does() {
    let collector = yaml("collector.yml");
    let compose = yaml("../../docker-compose.yml");
    let said = word(&compose["x-service-environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]);
    let default = said.trim_start_matches("${OTEL_EXPORTER_OTLP_ENDPOINT-");
    let (host, port) = place(default.trim_end_matches('}'));
    assert_eq!(host, "collector");
    let listens = &collector["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"];
    assert_eq!(place(word(listens)), ("0.0.0.0", port));
    let sends = &collector["exporters"]["otlp/jaeger"]["endpoint"];
    // OTLP's own port.
    assert_eq!(place(word(sends)), ("jaeger", "4317"));
    assert!(observing().is_superset(&["collector", "jaeger"].map(str::to_owned).into()));
}

#[test]
fn every_panel_asks_a_data_source_that_is_provisioned_and_that_a_container_is() {
    let sources = yaml("grafana/datasources.yml");
    let sources = sources["datasources"].as_array().expect("data sources");
    for source in sources {
        let (host, _) = place(word(&source["url"]));
        assert!(observing().contains(host), "{source}");
    }
    let provisioned: BTreeSet<_> = sources.iter().map(|source| word(&source["uid"])).collect();
    let mut uids = BTreeSet::new();
    for dashboard in ["services", "discovery"] {
        let board: Value =
            serde_json::from_str(&text(&format!("grafana/dashboards/{dashboard}.json")))
                .expect("JSON");
        let panels = board["panels"].as_array().expect("panels");
        let asked = panels.iter().filter(|panel| panel["type"] != "row");
        for panel in asked {
            let uid = word(&panel["datasource"]["uid"]).to_owned();
            assert!(provisioned.contains(&*uid), "{}: {uid}", panel["title"]);
        }
        assert!(
            uids.insert(word(&board["uid"]).to_owned()),
            "a dashboard's uid is its own"
        );
        let (mut ids, number) = (BTreeSet::new(), panels.len());
        ids.extend(
            panels
                .iter()
                .map(|panel| panel["id"].as_u64().expect("an id")),
        );
        assert_eq!(ids.len(), number, "a panel's id is its own");
    }
    let provider = yaml("grafana/dashboards.yml");
    let folder = word(&provider["providers"][0]["options"]["path"]).to_owned();
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
    for job in jobs {
        let name = word(&job["job_name"]);
        assert_eq!(texts(&job["dns_sd_configs"][0]["names"]), [name]);
        scraped.push(name);
    }
    ours.sort_unstable();
    scraped.sort_unstable();
    assert_eq!(scraped, ours);
}
