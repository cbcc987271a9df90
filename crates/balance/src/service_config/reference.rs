//! What `docs/service-config.md` says is so.

use super::ServiceConfig;
use crate::policy::Policies;

const PAGE: &str = include_str!("../../../../docs/service-config.md");

fn parse(json: &str) -> ServiceConfig {
    ServiceConfig::parse(json, &Policies::default())
        .unwrap_or_else(|error| panic!("{json}\n{error}"))
}

/// The page's JSON, each a whole config.
fn examples() -> Vec<&'static str> {
    let blocks = PAGE.split("```json\n").skip(1);
    let examples: Vec<_> = blocks
        .filter_map(|block| block.split("```").next())
        .collect();
    assert!(!examples.is_empty(), "the page has examples");
    examples
}

#[test]
fn every_example_is_read() {
    for json in examples() {
        parse(json);
    }
}

#[test]
fn the_defaults_of_what_goes_around_a_policy_are_those_on_the_page() {
    let left_out = [
        (r#""mass_loss_protection""#, ""),
        (r#""random_subsetting""#, r#""subsetSize":20,"#),
        (
            r#""outlier_detection""#,
            r#""successRateEjection":{},"failurePercentageEjection":{},"consecutiveFailures":{},"#,
        ),
        (r#""panic_threshold""#, ""),
        (
            r#""canary""#,
            r#""version":"v2","header":"x-user","sharePercent":5,"#,
        ),
        (r#""zone_preference""#, ""),
        (r#""slow_start""#, r#""window":"60s","#),
    ];
    for (name, required) in left_out {
        let begins = format!(r#"{{"loadBalancingConfig": [{{{name}: {{"#);
        let spelt_out = examples()
            .into_iter()
            .find(|json| json.starts_with(&begins));
        let spelt_out = parse(spelt_out.expect(name)).balancing;
        let short = format!(
            r#"{{"loadBalancingConfig":[{{{name}:{{{required}"childPolicy":[{{"round_robin":{{}}}}]}}}}]}}"#
        );
        assert!(spelt_out.is_some());
        assert_eq!(spelt_out, parse(&short).balancing);
    }
}

#[test]
fn what_the_page_says_is_refused_is_refused_in_these_words() {
    let said = |path: &str| {
        PAGE.lines()
            .find(|line| line.starts_with(path))
            .expect(path)
    };
    for (path, json) in [
        (
            "methodConfig[0].",
            r#"{"methodConfig":[{"retryPolicy":{"maxAttempts":0}}]}"#,
        ),
        (
            "loadBalancingConfig[0].",
            r#"{"loadBalancingConfig":[{"outlier_detection":{"maxEjectionPercent":101,"childPolicy":[{"round_robin":{}}]}}]}"#,
        ),
    ] {
        let refused = ServiceConfig::parse(json, &Policies::default()).expect_err(json);
        assert_eq!(refused.to_string(), said(path));
    }
}

#[test]
fn every_policy_has_its_row() {
    let first_cells: Vec<_> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .collect();
    for name in Policies::default().names().split(", ") {
        let name = format!("`{name}`");
        assert!(
            first_cells.iter().any(|cell| cell.contains(&name)),
            "docs/service-config.md has no row for {name} in its table of policies"
        );
    }
}
