//! What a configuration file and the environment can set.

use serde::{Deserialize, Serialize};
use service_kit::{
    Sections,
    config::{AdminConfig, LogConfig, RegistryConfig, TraceConfig},
};

/// The sections that every binary has; a run's own options are on the command line only.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ClientConfig {
    registry: RegistryConfig,
    admin: AdminConfig,
    log: LogConfig,
    trace: TraceConfig,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            registry: RegistryConfig::default(),
            admin: AdminConfig::default(),
            // stderr is read by the person who waits for the figures: nothing but trouble goes between them.
            log: LogConfig {
                level: "warn".into(),
                ..LogConfig::default()
            },
            trace: TraceConfig::default(),
        }
    }
}

impl Sections for ClientConfig {
    fn registry(&self) -> &RegistryConfig {
        &self.registry
    }

    fn admin(&self) -> &AdminConfig {
        &self.admin
    }

    fn log(&self) -> &LogConfig {
        &self.log
    }

    fn trace(&self) -> &TraceConfig {
        &self.trace
    }
}
