//! Logs: text for people, JSON for machines.

use std::io::{self, IsTerminal};

use anyhow::{Context, anyhow};
use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{LogConfig, LogFormat};

/// Starts logs on stderr, for the whole process.
pub(super) fn start(config: &LogConfig) -> anyhow::Result<()> {
    let terminal = io::stderr().is_terminal();
    let json = match config.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = fmt()
        .with_env_filter(filter(&config.level)?)
        .with_writer(io::stderr);
    let started = if json {
        lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init()
    } else {
        // <https://no-color.org>
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        lines.compact().with_ansi(terminal && !plain).try_init()
    };
    started
        .map_err(|error| anyhow!(error))
        .context("cannot start the log")
}

fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::builder().parse(level).with_context(|| {
        format!(
            "log.level {level:?} is no filter; it is off, error, warn, info, debug or trace, or TARGET=LEVEL, joined by commas"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn a_filter_that_cannot_be_read_is_named() {
        assert!(filter("warn,balance=debug").is_ok());
        let error = filter("balance=loud").expect_err("loud is no level");
        assert!(error.to_string().contains("balance=loud"), "{error}");
    }
}
