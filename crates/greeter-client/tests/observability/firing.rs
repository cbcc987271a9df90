//! Whether each alert fires when what it is for has come about, on real processes: Prometheus evaluates the rules, in a hurry.

use std::{collections::BTreeSet, fs};

use testkit::{eventually, prometheus::Prometheus};

use crate::{causes::Causes, queries::alerts, scene::BOUND, text};

/// Whose cause cannot be brought about from without: a registry that does not tell of a change.
const NOT_BROUGHT_ABOUT: [&str; 1] = ["WatchMissedChanges"];

/// The rules as they are, in which a moment does for whatever takes minutes: ranges, how long something has to be so, and how
/// long a list may be stale.
fn hurried(rules: &str) -> String {
    let hurried = rules.lines().map(|line| match line.split_once("for: ") {
        Some((indent, _)) if indent.trim().is_empty() => format!("{indent}for: 1s\n"),
        _ => {
            let ranges = ["[1m]", "[5m]", "[15m]", "[1h]"];
            let line = ranges
                .iter()
                .fold(line.to_owned(), |line, range| line.replace(range, "[5s]"));
            assert!(!line.contains("m]") && !line.contains("h]"), "{line}");
            line.replace("staleness_seconds > 60", "staleness_seconds > 2") + "\n"
        }
    });
    hurried.collect()
}

/// The alerts that fire now, each with the job that it is about; none where the answer is late.
async fn firing(prometheus: &Prometheus) -> BTreeSet<(String, String)> {
    let alerts = prometheus.query(r#"ALERTS{alertstate="firing"}"#).await;
    let alerts = alerts.unwrap_or_default();
    let label = |alert: &serde_json::Value, name: &str| {
        alert["metric"][name].as_str().expect("a label").to_owned()
    };
    alerts
        .iter()
        .map(|alert| (label(alert, "alertname"), label(alert, "job")))
        .collect()
}

#[tokio::test]
async fn each_alert_fires_once_what_it_is_for_has_come_about() {
    let directory = tempfile::tempdir().expect("a directory");
    let rules = directory.path().join("alerts.yml");
    fs::write(&rules, hurried(&text("alerts.yml"))).expect("they are written");
    let mut causes = Causes::begin().await;
    let rules = rules.to_str().expect("UTF-8");
    let prometheus = Prometheus::start(&causes.configuration(rules))
        .await
        .expect("a Prometheus");
    eventually(BOUND, "none refused yet", async || {
        let none = r#"balance_service_configs_refused_total{job="nobody"} == 0"#;
        let found = prometheus.query(none).await;
        found.is_ok_and(|found| !found.is_empty())
    })
    .await;
    causes.misconfigure().await;
    let mut expected: BTreeSet<_> = [
        ("CallersFail", "hung"),
        ("CallsAreSlow", "hung"),
        ("CallsFail", "hung"),
        ("CertificateExpires", "expiring"),
        ("EtcdMemberDown", "etcd"),
        ("EtcdNoLeader", "etcd"),
        ("EtcdSpaceRunsOut", "etcd"),
        ("FileDescriptorsRunOut", "full"),
        ("InstanceDown", "gone"),
        ("InstanceNotReady", "unready"),
        ("InstancesEjected", "ejecting"),
        ("ListStale", "cut-caller"),
        ("ManyRetries", "retrying"),
        ("MetricsLost", "retrying"),
        ("NobodyToCall", "nobody"),
        ("Panicking", "ejecting"),
        ("RegistrationLost", "cut"),
        ("RegistrationSuperseded", "superseded"),
        ("ServiceConfigRefused", "nobody"),
        ("SpansLost", "retrying"),
        ("WorkerBusy", "busy"),
    ]
    .map(|(alert, job)| (alert.to_owned(), job.to_owned()))
    .into();
    let brought_about = expected.iter().map(|(alert, _)| alert.as_str());
    let tried: BTreeSet<_> = brought_about
        .chain(NOT_BROUGHT_ABOUT)
        .map(str::to_owned)
        .collect();
    let all = alerts().await.into_iter().map(|rule| rule.name);
    assert_eq!(tried, all.collect());

    // All of it is much for a machine that has other things to do.
    eventually(2 * BOUND, "each alert to fire", async || {
        for fires in firing(&prometheus).await {
            if fires.0 == "WorkerBusy" {
                causes.leave_the_thread_alone();
            }
            expected.remove(&fires);
        }
        println!("still to fire: {expected:?}");
        expected.is_empty()
    })
    .await;
    // On a machine that is busy a call may be slow for a while.
    eventually(
        BOUND,
        "no alert of those with whom all is well",
        async || {
            let firing = firing(&prometheus).await;
            !firing.iter().any(|(_, job)| job.starts_with("well"))
        },
    )
    .await;
}
