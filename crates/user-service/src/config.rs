//! What a configuration file and the environment can set.

use std::{num::NonZeroU32, thread::available_parallelism, time::Duration};

use registry::InvalidInstance;
use serde::{Deserialize, Serialize};
use service_kit::{
    Sections, ServiceSections,
    config::{
        AdminConfig, LogConfig, RegistryConfig, ServerConfig, TlsConfig, TraceConfig, duration,
    },
};

use crate::storage::StorageUrl;

/// The sections of every service, and this one's own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct UserConfig {
    registry: RegistryConfig,
    server: ServerConfig,
    admin: AdminConfig,
    log: LogConfig,
    trace: TraceConfig,
    tls: TlsConfig,
    /// `[storage]`
    pub(crate) storage: StorageConfig,
    /// `[auth]`
    pub(crate) auth: AuthConfig,
    /// `[greeter]`
    pub(crate) greeter: GreeterConfig,
}

/// `[storage]`: where users are kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StorageConfig {
    /// One file on this machine, or a PostgreSQL database that several instances share.
    pub(crate) url: StorageUrl,
    /// How many connections operations may have at most; there is one more, by which the storage is looked at.
    pub(crate) connections: NonZeroU32,
    /// How long one operation may take once it has a connection.
    #[serde(with = "duration")]
    pub(crate) timeout: Duration,
}

/// `[auth]`: passwords and tokens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AuthConfig {
    /// How long a token is good for, in whole seconds; what is above them is left out.
    #[serde(with = "duration")]
    pub(crate) token_ttl: Duration,
    /// How many passwords are hashed at the same time, with 19 MiB each.
    pub(crate) parallelism: NonZeroU32,
}

/// `[greeter]`: who greets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GreeterConfig {
    /// The greeter's name in the registry, or another target.
    pub(crate) target: String,
    /// How long a greeting may take when the caller sets no deadline.
    #[serde(with = "duration")]
    pub(crate) timeout: Duration,
}

impl UserConfig {
    /// The defaults of the service.
    pub(crate) fn of_service() -> Result<Self, InvalidInstance> {
        let processors = available_parallelism()
            .ok()
            .and_then(|n| u32::try_from(n.get()).ok());
        Ok(Self {
            registry: RegistryConfig::default(),
            server: ServerConfig::named("user")?,
            admin: AdminConfig::default(),
            log: LogConfig::default(),
            trace: TraceConfig::default(),
            tls: TlsConfig::default(),
            storage: StorageConfig {
                url: StorageUrl::of_this_user(),
                connections: NonZeroU32::MIN.saturating_add(7),
                timeout: Duration::from_secs(2),
            },
            auth: AuthConfig {
                token_ttl: Duration::from_hours(1),
                parallelism: processors
                    .and_then(NonZeroU32::new)
                    .unwrap_or(NonZeroU32::MIN),
            },
            greeter: GreeterConfig {
                target: "greeter".to_owned(),
                timeout: Duration::from_secs(2),
            },
        })
    }

    /// The defaults of the `admin` subcommands: what is logged comes between nobody and the answer.
    pub(crate) fn of_admin() -> Result<Self, InvalidInstance> {
        let mut config = Self::of_service()?;
        "warn".clone_into(&mut config.log.level);
        Ok(config)
    }

    /// Refuses durations that nothing can be done in.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let millisecond = Duration::from_millis(1);
        for (key, value, least) in [
            ("storage.timeout", self.storage.timeout, millisecond),
            // The times in a token are whole seconds.
            (
                "auth.token_ttl",
                self.auth.token_ttl,
                Duration::from_secs(1),
            ),
            ("greeter.timeout", self.greeter.timeout, millisecond),
        ] {
            anyhow::ensure!(
                (least..=Duration::from_hours(24 * 365)).contains(&value),
                "{key} is {}; it is from {} to a year",
                humantime::format_duration(value),
                humantime::format_duration(least)
            );
        }
        Ok(())
    }
}

impl Sections for UserConfig {
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

    fn tls(&self) -> &TlsConfig {
        &self.tls
    }
}

impl ServiceSections for UserConfig {
    fn server(&self) -> &ServerConfig {
        &self.server
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_a_second_at_least_since_its_times_are_whole_seconds() {
        let mut config = UserConfig::of_service().expect("the defaults");
        config.auth.token_ttl = Duration::from_secs(1);
        config.check().expect("a second");
        config.auth.token_ttl = Duration::from_millis(999);
        let refused = config.check().expect_err("less").to_string();
        assert!(refused.starts_with("auth.token_ttl is 999ms"), "{refused}");
        config.auth.token_ttl = Duration::from_hours(1);
        config.storage.timeout = Duration::from_micros(999);
        let refused = config.check().expect_err("less").to_string();
        assert!(refused.starts_with("storage.timeout is 999us"), "{refused}");
    }
}
