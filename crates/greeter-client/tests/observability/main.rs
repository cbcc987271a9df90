//! What the binaries tell on their pages, by Prometheus' own programs.

mod scene;

use std::{collections::BTreeSet, fs};

use scene::Scene;
use testkit::prometheus::promtool;

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
async fn the_reference_has_every_metric_of_a_server_and_no_other() {
    let scene = Scene::begin().await;
    scene.until_all_has_happened().await;
    let page = scene.pages().await.swap_remove(0);
    let exported = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let exported: BTreeSet<_> = exported.filter_map(|line| line.split(' ').next()).collect();
    let reference = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/operations.md"
    ))
    .expect("the reference");
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
