//! What deploy/observability asks of the binaries, held against what they tell: by Prometheus' own programs, on real pages.

mod causes;
mod dashboards;
mod expression;
mod fields;
mod files;
mod firing;
mod queries;
mod scene;

use std::{collections::BTreeSet, fs};

use queries::{alerts, panels};
use scene::{BOUND, Scene, samples};
use testkit::{
    etcd::Cluster,
    eventually, http,
    prometheus::{Prometheus, promtool},
};

/// The path of a file, by its path from deploy/observability.
fn path(name: &str) -> String {
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    format!("{workspace}/deploy/observability/{name}")
}

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).expect(name)
}

async fn checked(what: [&str; 2], name: &str) {
    let [command, kind] = what;
    let found = promtool(&[command, kind, &path(name)], "").await;
    found.expect("promtool finds no fault");
}

#[tokio::test]
async fn the_configuration_is_one_and_every_rule_passes_its_tests() {
    checked(["check", "config"], "prometheus.yml").await;
    checked(["test", "rules"], "alerts.test.yml").await;
}

#[tokio::test]
async fn every_alert_fires_in_a_test_and_is_explained() {
    let rules = alerts().await;
    let (tests, guide) = (text("alerts.test.yml"), text("../../docs/operations.md"));
    for rule in rules {
        let name = &rule.name;
        let mut tested = tests.split("alertname: ").skip(1);
        let fires = |case: &str| {
            case.split_once("exp_alerts:")
                .is_some_and(|(until, _)| until.trim() == *name)
        };
        assert!(tested.any(fires), "no test in which {name} fires");
        assert!(
            guide.contains(&format!("`{name}`")),
            "docs/operations.md has no {name}"
        );
    }
}

#[tokio::test]
async fn promtool_finds_no_fault_with_the_page_of_a_server_and_of_a_client() {
    let scene = Scene::begin().await;
    scene.until_all_has_happened().await;
    for page in scene.pages().await {
        let lint = promtool(&["check", "metrics"], &page).await;
        assert_eq!(lint.expect("promtool finds no fault"), "");
    }
}

#[tokio::test]
async fn the_reference_has_every_metric_of_servers_and_no_other() {
    let scene = Scene::begin().await;
    scene.until_all_has_happened().await;
    let pages = scene.pages_of_servers().await;
    let lines = pages.iter().flat_map(|page| page.lines());
    let exported = lines.filter_map(|line| line.strip_prefix("# TYPE "));
    let exported: BTreeSet<_> = exported.filter_map(|line| line.split(' ').next()).collect();
    let reference = text("../../docs/operations.md");
    let (_, table) = reference
        .split_once("| metric |")
        .expect("a table of metrics");
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let names = rows.filter_map(|row| row.split('|').nth(1));
    let documented: BTreeSet<_> = names
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    assert_eq!(documented, exported);
}

#[tokio::test]
async fn every_metric_of_the_dashboards_and_rules_is_exported() {
    let scene = Scene::begin().await;
    scene.until_all_has_happened().await;
    let mut exported = scene.exported().await;
    let etcd = Cluster::start_one().await.expect("an etcd");
    let member = etcd.endpoints().swap_remove(0);
    let (_, port) = member.rsplit_once(':').expect("a port");
    let page = http::text(port.parse().expect("a number"), "/metrics").await;
    exported.extend(samples(&[page.expect("a page")]));
    for query in panels().into_iter().chain(alerts().await) {
        for metric in expression::metrics(&query.expression) {
            // Prometheus' own, of each target.
            let known = metric == "up" || exported.contains(&metric);
            assert!(
                known,
                "nobody exports {metric}, for which {} asks",
                query.name
            );
        }
    }
}

#[tokio::test]
async fn a_prometheus_that_scrapes_the_binaries_has_something_to_show_in_every_panel() {
    let scene = Scene::begin().await;
    scene.until_all_has_happened().await;
    let prometheus = Prometheus::start(&scene.configuration(&path("alerts.yml")))
        .await
        .expect("a Prometheus");
    let mut empty: BTreeSet<_> = panels().into_iter().collect();
    eventually(BOUND, "something to show in every panel", async || {
        for panel in empty.clone() {
            let found = prometheus.query(&panel.for_all()).await;
            if found.is_ok_and(|found| !found.is_empty()) {
                empty.remove(&panel);
            }
        }
        println!("nothing to show yet: {empty:?}");
        empty.is_empty()
    })
    .await;
    eventually(BOUND, "the rules evaluated", async || {
        let rules = prometheus.alert_rules().await.unwrap_or_default();
        !rules.is_empty() && rules.iter().all(|rule| rule["health"] == "ok")
    })
    .await;
    eventually(BOUND, "a page of everybody", async || {
        let up = prometheus.query("up == 1").await.unwrap_or_default();
        up.len() == scene.targets()
    })
    .await;
}
