//! The collector's configuration.

#![expect(dead_code, reason = "a key is known by having a field")]

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Nothing;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Collector {
    pub(crate) receivers: Receivers,
    pub(crate) processors: Processors,
    pub(crate) exporters: Exporters,
    pub(crate) service: Service,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Receivers {
    pub(crate) otlp: Otlp,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Otlp {
    pub(crate) protocols: Protocols,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Protocols {
    pub(crate) grpc: Listener,
    pub(crate) http: Listener,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listener {
    pub(crate) endpoint: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Processors {
    pub(crate) memory_limiter: MemoryLimiter,
    batch: Nothing,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemoryLimiter {
    check_interval: String,
    pub(crate) limit_percentage: u32,
    pub(crate) spike_limit_percentage: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exporters {
    #[serde(rename = "otlp/jaeger")]
    pub(crate) jaeger: OtlpExporter,
    nop: Nothing,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OtlpExporter {
    pub(crate) endpoint: String,
    tls: Tls,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    insecure: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    pub(crate) pipelines: BTreeMap<Signal, Pipeline>,
}

#[derive(Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Signal {
    Logs,
    Metrics,
    Traces,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pipeline {
    pub(crate) receivers: Vec<String>,
    pub(crate) processors: Vec<String>,
    pub(crate) exporters: Vec<String>,
}
