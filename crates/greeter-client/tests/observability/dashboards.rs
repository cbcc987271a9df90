//! Whether each dashboard is whole: what Grafana would draw wrongly, or leave empty, without a word.

use std::collections::BTreeSet;

use crate::fields::{DASHBOARDS, Dashboard, DataSources, GridPos, SourceRef, read};

const COLUMNS: u32 = 24;
/// Grafana's own, which nobody defines.
const BUILT_IN: &str = "__rate_interval";

fn dashboards() -> impl Iterator<Item = Dashboard> {
    DASHBOARDS.into_iter().map(read)
}

fn overlap(a: GridPos, b: GridPos) -> bool {
    a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h
}

/// The variables that `text` asks for, as in `$job`.
fn variables(text: &str) -> BTreeSet<String> {
    let word = |rest: &str| {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        rest[..end.unwrap_or(rest.len())].to_owned()
    };
    text.split('$').skip(1).map(word).collect()
}

#[test]
fn panels_have_their_own_ids_and_places_in_a_grid_of_24_columns() {
    for board in dashboards() {
        let mut ids = BTreeSet::new();
        for (number, panel) in board.panels.iter().enumerate() {
            let (title, place) = (panel.title(), panel.place());
            assert!(ids.insert(panel.id()), "{title}");
            assert!(place.w > 0 && place.h > 0, "{title}: {place:?}");
            assert!(place.x + place.w <= COLUMNS, "{title}: {place:?}");
            for other in &board.panels[..number] {
                assert!(!overlap(place, other.place()), "{title} {}", other.title());
            }
        }
    }
}

#[test]
fn every_query_has_its_own_name_in_its_panel_and_goes_to_a_data_source_that_is_provisioned() {
    let sources: DataSources = read("grafana/datasources.yml");
    let sources = sources.datasources.into_iter();
    let provisioned: BTreeSet<_> = sources
        .map(|source| SourceRef {
            kind: source.kind,
            uid: source.uid,
        })
        .collect();
    for board in dashboards() {
        for variable in &board.templating.list {
            assert!(provisioned.contains(&variable.datasource), "{variable:?}");
        }
        for panel in &board.panels {
            let Some((source, targets)) = panel.asks() else {
                continue;
            };
            assert!(provisioned.contains(source), "{}", panel.title());
            assert!(!targets.is_empty(), "{}", panel.title());
            let mut names = BTreeSet::new();
            for target in targets {
                assert_eq!(&target.datasource, source, "{}", panel.title());
                assert!(names.insert(&target.ref_id), "{}", panel.title());
            }
        }
    }
}

#[test]
fn variables_are_defined_before_they_are_asked_for_and_every_one_is() {
    for board in dashboards() {
        let (mut defined, mut asked) = (BTreeSet::new(), BTreeSet::new());
        for variable in &board.templating.list {
            let query = &variable.query.query;
            assert_eq!(&variable.definition, query, "what the settings show");
            assert!(variables(query).is_subset(&defined), "{variable:?}");
            assert!(defined.insert(variable.name.clone()), "{variable:?}");
        }
        let targets = board.panels.iter().filter_map(|panel| panel.asks());
        for target in targets.flat_map(|(_, targets)| targets) {
            asked.append(&mut variables(&target.expr));
        }
        asked.remove(BUILT_IN);
        assert_eq!(asked, defined, "{}", board.uid);
    }
}

#[test]
fn a_legend_names_labels_that_its_expression_names() {
    for board in dashboards() {
        let targets = board.panels.iter().filter_map(|panel| panel.asks());
        for target in targets.flat_map(|(_, targets)| targets) {
            for label in target.legend_format.split("{{").skip(1) {
                let (label, _) = label.split_once("}}").expect("it is closed");
                let mut words = target
                    .expr
                    .split(|c: char| !c.is_alphanumeric() && c != '_');
                assert!(words.any(|word| word == label), "{target:?}");
            }
        }
    }
}

#[test]
fn dashboards_have_their_own_uids_and_lead_to_one_another() {
    let boards: Vec<_> = dashboards().collect();
    let uids: BTreeSet<_> = boards.iter().map(|board| &board.uid).collect();
    assert_eq!(uids.len(), boards.len());
    let mut tags = boards.iter().flat_map(|board| &board.tags);
    let shared = tags.next().expect("a tag");
    for board in &boards {
        assert!(board.tags.contains(shared), "{}", board.uid);
        assert!(board.links.iter().any(|link| link.tags.contains(shared)));
        // The version whose schema the fields are held against; Grafana brings an earlier one up to date by guessing.
        assert!(board.schema_version >= 36, "{}", board.uid);
    }
}
