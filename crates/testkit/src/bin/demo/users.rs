//! A user-service with its users in a file of its own, and what is asked of it: by its own `admin` subcommands, which find it
//! by its name.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use testkit::{
    Port,
    process::{Process, binary},
};

/// How long it may take until it has registered; the file is made and its tables before that.
const STARTED: Duration = Duration::from_secs(30);
/// How long an answer may take.
const ANSWERED: Duration = Duration::from_secs(30);
/// How long it may take to drain, and then some.
const STOPPED: Duration = Duration::from_secs(40);

/// A running user-service. Dropped, it is killed, and its users are gone.
#[derive(Debug)]
pub(crate) struct Users {
    program: PathBuf,
    registry: String,
    process: Process,
    port: Port,
    // The last to go: the process writes to it.
    _directory: TempDir,
}

impl Users {
    /// Starts one in that registry, which can be found there when this returns.
    pub(crate) async fn start(registry: String) -> Result<Self> {
        let program = binary("user-service")?;
        let directory = tempfile::Builder::new().prefix("demo-users-").tempdir();
        let directory = directory.context("cannot make a directory for the users")?;
        let port = Port::free()?;
        let mut command = command(&program, &registry);
        command.args(["--listen", &port.address()]).env(
            "DISCOVERY__STORAGE__URL",
            format!("sqlite://{}/users.db", directory.path().display()),
        );
        let process = Process::spawn("user-service", command)?;
        process.wait_for_line("registered", STARTED).await?;
        Ok(Self {
            program,
            registry,
            process,
            port,
            _directory: directory,
        })
    }

    /// Where it answers, and its process id.
    pub(crate) fn describe(&self) -> String {
        format!("{} (process {})", self.port.address(), self.process.pid())
    }

    /// Runs one of its `admin` subcommands and gives the one line that it prints. An error when it fails.
    pub(crate) async fn admin(&self, words: &[&str]) -> Result<String> {
        let mut command = command(&self.program, &self.registry);
        command.args(["admin", "--timeout", "30s"]).args(words);
        let asked = Process::spawn(format!("user-service admin {}", words.join(" ")), command)?;
        let status = asked.wait(ANSWERED).await?;
        ensure!(
            status.success(),
            asked.complaint(&format!("ended with {status}"))
        );
        let mut lines = asked.lines();
        while let Some(line) = lines.next().await {
            if !line.stderr {
                return Ok(line.text.to_string());
            }
        }
        Err(asked.complaint("printed no answer"))
    }

    /// Stops it (SIGTERM), which lets it finish what it has. An error when it does not end well.
    pub(crate) async fn stop(self) -> Result<()> {
        let status = self.process.terminate(STOPPED).await?;
        ensure!(
            status.success(),
            self.process.complaint(&format!("ended with {status}"))
        );
        Ok(())
    }
}

/// The binary in that registry, with a log for people to read.
fn command(program: &Path, registry: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--registry", registry])
        .env("DISCOVERY__LOG__FORMAT", "text");
    command
}
