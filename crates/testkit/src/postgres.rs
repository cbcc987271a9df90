//! A real PostgreSQL server on loopback, from Debian's package: started, broken and mended at will.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{Uid, User};
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::{Port, Signal, process::Process, until};

/// Where Debian keeps each version, in a directory of its own.
const VERSIONS: &str = "/usr/lib/postgresql";
/// A server that does not answer in this time will not; it takes a second.
const STARTED: Duration = Duration::from_mins(1);
/// How long a server may take to end by itself; it cuts its clients off.
const STOPPED: Duration = Duration::from_secs(20);
/// Who may do all in it, and by what.
const USER: &str = "tester";
const PASSWORD: &str = "s3cr3t-of-the-tests";

/// A server with data of its own. Dropped, it is killed and its data is removed.
///
/// PostgreSQL refuses to run as root: tests that do run it as the user that its package has made.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    owner: Option<User>,
    port: Port,
    process: Option<Process>,
    databases: AtomicUsize,
    directory: TempDir,
}

impl Postgres {
    /// A server on a free port, ready for clients when this returns.
    pub async fn start() -> Result<Self> {
        let mut server = Self {
            programs: programs()?,
            owner: owner()?,
            port: Port::free()?,
            process: None,
            databases: AtomicUsize::new(0),
            directory: tempfile::Builder::new().prefix("postgres-").tempdir()?,
        };
        server.initialise().await?;
        server.restart().await?;
        Ok(server)
    }

    /// The password that is in every URL, for tests of what is kept secret.
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// Makes an empty database and gives its URL.
    pub async fn database(&self) -> Result<String> {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{number}");
        self.run("createdb", &["--template=template0", &name])
            .await?;
        Ok(format!(
            "postgres://{USER}:{PASSWORD}@{}/{name}",
            self.port.address()
        ))
    }

    /// Does what SQL says in the database of that URL, and gives what it tells, a row a line.
    pub async fn sql(&self, url: &str, sql: &str) -> Result<String> {
        self.run(
            "psql",
            &[
                "--no-psqlrc",
                "-At",
                "-v",
                "ON_ERROR_STOP=1",
                "-c",
                sql,
                url,
            ],
        )
        .await
    }

    /// Kills the server (SIGKILL). Nothing to do when it is not running.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(process) = self.process.take() {
            process.kill().await?;
        }
        Ok(())
    }

    /// Stops it as an operator does who does not wait for clients (SIGINT). Nothing to do when it is not running.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(process) = self.process.take() {
            process.signal(Signal::SIGINT)?;
            process.wait(STOPPED).await?;
        }
        Ok(())
    }

    /// Starts it with the data that it has, and waits until it answers; one that runs is killed first.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill().await?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args([
            "-h",
            "127.0.0.1",
            "-p",
            &self.port.to_string(),
            "-k",
            "",
            // What is tested is not whether a disk keeps its word.
            "-c",
            "fsync=off",
        ]);
        let process = Process::spawn("postgres", command)?;
        let ready = until(STARTED, "postgres to answer", async || {
            if let Some(status) = process.try_wait() {
                return Ok(Err(process.complaint(&format!("has ended with {status}"))));
            }
            self.run(
                "psql",
                &["--no-psqlrc", "-At", "-c", "SELECT 1", "postgres"],
            )
            .await
            .map(Ok)
        });
        ready.await??;
        self.process = Some(process);
        Ok(())
    }

    async fn initialise(&self) -> Result<()> {
        let directory = self.directory.path();
        let passwords = directory.join("password");
        fs::write(&passwords, PASSWORD)?;
        if let Some(owner) = &self.owner {
            let (user, group) = (Some(owner.uid.as_raw()), Some(owner.gid.as_raw()));
            chown(directory, user, group)?;
            chown(&passwords, user, group)?;
        }
        let (data, passwords) = (argument(&self.data())?, argument(&passwords)?);
        let arguments = [
            "--pgdata",
            &data,
            "--username",
            USER,
            "--pwfile",
            &passwords,
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ];
        self.run("initdb", &arguments).await.map(drop)
    }

    /// Runs one of PostgreSQL's programs to its end and gives what it prints.
    async fn run(&self, program: &'static str, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(program);
        command.args(arguments);
        let output = spawn_blocking(move || command.output())
            .await?
            .with_context(|| format!("cannot run {program}"))?;
        ensure!(
            output.status.success(),
            "{program} has ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    /// One of PostgreSQL's programs as the server's owner, to be a client of this server.
    fn command(&self, program: &str) -> Command {
        let path = self.programs.join(program);
        let mut command = match &self.owner {
            None => Command::new(path),
            Some(owner) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={}", owner.uid));
                command.arg(format!("--regid={}", owner.gid));
                // Who changes the user is not killed with its parent any more, unless it says so again.
                command.args(["--clear-groups", "--pdeathsig=KILL", "--"]);
                command.arg(path);
                command
            }
        };
        command
            .current_dir(self.directory.path())
            .env("LC_ALL", "C")
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", USER)
            .env("PGPASSWORD", PASSWORD)
            .env("PGCONNECT_TIMEOUT", "5");
        command
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }
}

fn argument(path: &Path) -> Result<String> {
    let text = path
        .to_str()
        .context("a directory whose name is not Unicode")?;
    Ok(text.to_owned())
}

/// Where the newest version's programs are.
fn programs() -> Result<PathBuf> {
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|version| {
            let number: u32 = version.file_name().to_str()?.parse().ok()?;
            let programs = version.path().join("bin");
            programs
                .join("initdb")
                .is_file()
                .then_some((number, programs))
        })
        .max();
    match newest {
        Some((_, programs)) => Ok(programs),
        None => bail!(
            "PostgreSQL is not installed: install the Debian package postgresql (apt-get install postgresql)"
        ),
    }
}

/// Whom the server runs as: whoever asks, and for root the user of Debian's package.
fn owner() -> Result<Option<User>> {
    if !Uid::current().is_root() {
        return Ok(None);
    }
    let user = User::from_name("postgres").context("cannot look up the user postgres")?;
    user.map(Some)
        .context("PostgreSQL does not run as root, and there is no user postgres to run it as")
}
