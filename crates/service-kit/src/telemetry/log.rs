//! Logs: text for people, JSON for machines, by a filter that can be replaced while the process runs.

use std::io::{self, IsTerminal};

use anyhow::{Context, anyhow, ensure};
use tracing_log::AsLog;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::LevelFilter, fmt, layer::SubscriberExt, reload,
    util::SubscriberInitExt,
};

use super::{
    joined::{Joined, in_json, in_text},
    quiet::once_a_minute,
};
use crate::{
    config::{LogConfig, LogFormat},
    terminal,
};

/// What is logged, to be read and replaced. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    /// The filter that is in force, as `log.level` would have it.
    pub(crate) fn current(&self) -> anyhow::Result<String> {
        self.0
            .with_current(ToString::to_string)
            .context("the log has ended")
    }

    /// Logs by that filter from now on, until the process ends; gives it as [`current`](Self::current) does.
    ///
    /// # Errors
    /// When it is no filter, with what is wrong; the one before stays in force.
    pub(crate) fn replace(&self, level: &str) -> anyhow::Result<String> {
        let level = level.trim();
        let filter = filter(level)?;
        // Told by the filter before: the next one may be silent.
        tracing::warn!(filter = level, "the log's filter is replaced");
        self.0.reload(filter).context("the log has ended")?;
        // Crates that log by `log` ask this first.
        tracing_log::log::set_max_level(LevelFilter::current().as_log());
        self.current()
    }
}

/// Starts logs on stderr, for the whole process.
pub(super) fn start(config: &LogConfig) -> anyhow::Result<LogLevel> {
    let is_terminal = io::stderr().is_terminal();
    let json = match config.format {
        LogFormat::Auto => !is_terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let filter = filter(&config.level).context("log.level cannot be used")?;
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer().with_writer(io::stderr);
    let lines = if json {
        lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .map_event_format(|format| Joined {
                format,
                join: in_json,
            })
            .boxed()
    } else {
        let colours = is_terminal && !terminal::is_plain_wanted();
        lines
            .compact()
            .with_ansi(colours)
            .map_event_format(|format| Joined {
                format: format.with_ansi(colours),
                join: in_text,
            })
            .boxed()
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines.with_filter(once_a_minute()))
        .try_init()
        .map_err(|error| anyhow!(error))
        .context("cannot start the log")?;
    Ok(LogLevel(handle))
}

fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    let what = || {
        format!(
            "{level:?} is no filter; it is off, error, warn, info, debug or trace, or TARGET=LEVEL, joined by commas"
        )
    };
    // An empty one would be read as `error`, which nobody means who leaves it out.
    ensure!(!level.trim().is_empty(), what());
    EnvFilter::builder().parse(level).with_context(what)
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn a_filter_that_cannot_be_read_is_named() {
        assert!(filter("warn,balance=debug").is_ok());
        for bad in ["balance=loud", "", " "] {
            let error = filter(bad).expect_err("no filter");
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
    }
}
