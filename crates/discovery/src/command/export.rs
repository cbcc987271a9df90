//! `discovery export`: the registry as JSON, or as targets for Prometheus.

mod prometheus;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use registry::ServiceName;
use service_kit::{config::AdminListen, terminal::print};
use tokio::{
    fs,
    time::{MissedTickBehavior, interval},
};

use crate::{args::positive_time, exported::Exported, session::Session, telling::ADMIN_HELP};

const EXAMPLE: &str = "\
Examples:
  discovery export > registry.json
      All services, with their service configs and what operators want: for `discovery import`.
  discovery export --format prometheus --port 9090 --file targets.json --every 5s greeter user
      For `file_sd_configs: [{files: [targets.json]}]`: what is scaled is scraped. It goes on until
      Ctrl-C, and leaves the file as it is while the registry cannot be read.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct ExportArgs {
    /// The services' names; without any, all services
    #[arg(value_name = "SERVICE", value_parser = ServiceName::new)]
    services: Vec<ServiceName>,

    /// What to write: the registry, or targets for Prometheus' file-based service discovery
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,

    /// Has Prometheus scrape this port of each instance's host, where the admin page is, instead of the instance's own
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,

    /// Writes this file, whole, instead of stdout
    #[arg(long)]
    file: Option<PathBuf>,

    /// Writes the file again each time that so much is over, until Ctrl-C
    #[arg(long, value_name = "TIME", value_parser = positive_time, requires = "file")]
    pub(super) every: Option<Duration>,

    #[arg(long, value_name = "IP:PORT", help = ADMIN_HELP, requires = "every")]
    pub(super) admin: Option<AdminListen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Json,
    Prometheus,
}

impl ExportArgs {
    pub(crate) async fn run(&self, session: &Session) -> Result<()> {
        session.ensure_known(&self.services).await?;
        self.write(session).await
    }

    /// Writes it once, and gives what goes on with that. Services that are named may be there later.
    pub(crate) async fn begin(
        &self,
        session: &Session,
        every: Duration,
    ) -> Result<impl Future<Output = Result<()>>> {
        self.write(session).await?;
        Ok(self.go_on(session, every))
    }

    async fn go_on(&self, session: &Session, every: Duration) -> Result<()> {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut is_behind = false;
        loop {
            ticks.tick().await;
            match self.write(session).await {
                Ok(()) => is_behind = false,
                // Once for each outage.
                Err(error) if !std::mem::replace(&mut is_behind, true) => {
                    tracing::warn!(error = format!("{error:#}"), "the file stays as it is");
                }
                Err(_) => {}
            }
        }
    }

    async fn write(&self, session: &Session) -> Result<()> {
        ensure!(
            self.port.is_none() || self.format == Format::Prometheus,
            "--port is for Prometheus: give --format prometheus too"
        );
        let text = match self.format {
            Format::Json => {
                let exported = Exported::read(session, &self.services).await?;
                serde_json::to_string_pretty(&exported)?
            }
            Format::Prometheus => {
                let targets = prometheus::targets(session, &self.services, self.port).await?;
                serde_json::to_string_pretty(&targets)?
            }
        } + "\n";
        match &self.file {
            None => print(&text).map(drop),
            Some(file) => replace(file, &text).await,
        }
    }
}

/// Writes a file beside its place, and then renames it: whoever reads it sees all of it.
async fn replace(file: &std::path::Path, text: &str) -> Result<()> {
    let mut unfinished = file.as_os_str().to_owned();
    unfinished.push(format!(".{}.tmp", std::process::id()));
    let written = async {
        fs::write(&unfinished, text).await?;
        fs::rename(&unfinished, file).await
    };
    let written = written.await;
    if written.is_err() {
        // It may not be there.
        let _ = fs::remove_file(&unfinished).await;
    }
    written.with_context(|| format!("cannot write {}", file.display()))
}
