//! The figures for a program.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::report::{Latency, Report};

/// The shape that callers of `--output json` rely on.
#[derive(Serialize)]
struct Shape<'a> {
    calls: u64,
    failures: u64,
    statuses: &'a BTreeMap<&'static str, u64>,
    first_failures: &'a BTreeMap<&'static str, String>,
    rps: f64,
    latency_us: Latency,
    instances: &'a BTreeMap<String, u64>,
}

/// One JSON object on one line.
pub(crate) fn object(report: &Report) -> String {
    let shape = Shape {
        calls: report.calls,
        failures: report.failures,
        statuses: &report.statuses,
        first_failures: &report.first_failures,
        // A tenth of a call is finer than any run repeats.
        rps: (report.rps * 10.0).round() / 10.0,
        latency_us: report.latency_us,
        instances: &report.instances,
    };
    serde_json::to_string(&shape).expect("numbers and text keys are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_has_the_promised_shape() {
        let report = Report {
            calls: 3,
            failures: 1,
            statuses: BTreeMap::from([("OK", 2), ("UNAVAILABLE", 1)]),
            rps: 12.3456,
            latency_us: Latency {
                p50: 90,
                p99: 800,
                p999: 900,
                max: 1_000,
            },
            instances: BTreeMap::from([("127.0.0.1:50051".into(), 2)]),
            first_failures: BTreeMap::from([("UNAVAILABLE", "nobody \"there\"".into())]),
        };
        assert_eq!(
            object(&report),
            r#"{"calls":3,"failures":1,"statuses":{"OK":2,"UNAVAILABLE":1},"first_failures":{"UNAVAILABLE":"nobody \"there\""},"rps":12.3,"latency_us":{"p50":90,"p99":800,"p999":900,"max":1000},"instances":{"127.0.0.1:50051":2}}"#
        );
    }
}
