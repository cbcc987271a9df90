//! What Grafana is provisioned with: data sources, and where dashboards are.

#![expect(dead_code, reason = "a key is known by having a field")]

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct DataSources {
    pub(crate) api_version: u32,
    pub(crate) datasources: Vec<DataSource>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct DataSource {
    pub(crate) name: String,
    pub(crate) uid: String,
    #[serde(rename = "type")]
    pub(crate) kind: SourceType,
    access: Access,
    pub(crate) url: String,
    pub(crate) is_default: Option<bool>,
    json_data: Option<PrometheusOptions>,
}

#[derive(Debug, Clone, Copy, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SourceType {
    Jaeger,
    Prometheus,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Access {
    Direct,
    Proxy,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PrometheusOptions {
    time_interval: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Providers {
    pub(crate) api_version: u32,
    pub(crate) providers: Vec<Provider>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Provider {
    name: String,
    #[serde(rename = "type")]
    kind: ProviderType,
    allow_ui_updates: bool,
    pub(crate) options: Files,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ProviderType {
    File,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Files {
    pub(crate) path: String,
}
