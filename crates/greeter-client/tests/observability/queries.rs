//! What is asked of Prometheus: by the panels of the dashboards, and by the alert rules.

use serde_json::Value;
use testkit::prometheus::Prometheus;

use crate::{
    fields::{DASHBOARDS, Dashboard, read},
    path,
};

/// An expression, and who asks it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Query {
    pub(crate) name: String,
    pub(crate) expression: String,
}

impl Query {
    /// The expression as Grafana would have it, for all services, instances and targets.
    pub(crate) fn for_all(&self) -> String {
        let expression = self.expression.replace("$__rate_interval", "1m");
        ["$job", "$instance", "$target"]
            .iter()
            .fold(expression, |text, variable| text.replace(variable, ".*"))
    }
}

/// Of every panel of every dashboard.
pub(crate) fn panels() -> Vec<Query> {
    let mut queries = Vec::new();
    for name in DASHBOARDS {
        let board: Dashboard = read(name);
        for panel in &board.panels {
            let targets = panel.asks().map_or(&[][..], |(_, targets)| targets);
            queries.extend(targets.iter().map(|target| Query {
                name: format!("{}: {}", board.uid, panel.title()),
                expression: target.expr.clone(),
            }));
        }
    }
    assert!(queries.len() > 30, "{queries:?}");
    queries
}

/// Of every alert rule, as Prometheus reads them.
pub(crate) async fn alerts() -> Vec<Query> {
    let configuration = format!("rule_files: [{:?}]", path("alerts.yml"));
    let prometheus = Prometheus::start(&configuration)
        .await
        .expect("a Prometheus");
    let rules = prometheus.alert_rules().await.expect("rules");
    let word = |rule: &Value, key: &str| rule[key].as_str().expect("a text").to_owned();
    let queries: Vec<_> = rules
        .iter()
        .map(|rule| Query {
            name: word(rule, "name"),
            expression: word(rule, "query"),
        })
        .collect();
    assert!(queries.len() > 10, "{queries:?}");
    queries
}
