//! The wall clock jumps: that of our own processes, by libfaketime, and never the machine's.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;
use tokio::time::sleep;

use crate::{
    outcome::Seen,
    scene::{Pace, Scene, TTL},
};

pub(super) async fn jumps(pace: Pace) -> Result<Seen> {
    let clock = Clock::new()?;
    let scene = Scene::open_with(pace, |fleet| {
        for (name, value) in clock.environment() {
            fleet.set_env(name, &value);
        }
    })
    .await?;
    let before = scene.registered().await?;
    for jump in ["+1h", "-1h", "+0"] {
        clock.set(jump)?;
        sleep(pace.pick(2 * TTL, Duration::from_secs(3))).await;
        let now = scene.registered().await?;
        ensure!(now == before, "after {jump}: {before:?} has become {now:?}");
        let freshness = scene.caller.channel().await?["freshness"].clone();
        ensure!(
            freshness == "live",
            "after {jump} the caller says {freshness}"
        );
    }
    for pid in scene
        .fleet
        .servers()
        .iter()
        .map(testkit::fleet::Server::pid)
    {
        clock.is_seen_by(pid)?;
    }
    clock.is_seen_by(scene.caller.client().process().pid())?;
    let seen = Seen {
        remark: "no key was written, and no list became stale".into(),
        ..Seen::default()
    };
    scene.close(seen).await
}

/// A wall clock for those who are given its environment.
struct Clock {
    library: PathBuf,
    offset: NamedTempFile,
}

impl Clock {
    fn new() -> Result<Self> {
        let clock = Self {
            library: library()?,
            offset: NamedTempFile::new()?,
        };
        clock.set("+1h")?;
        let ahead = clock.now()? - now(&[])?;
        ensure!(
            (3_500..3_700).contains(&ahead),
            "the clock is {ahead} s ahead, and not an hour"
        );
        clock.set("+0")?;
        Ok(clock)
    }

    fn set(&self, offset: &str) -> Result<()> {
        fs::write(self.offset.path(), offset).context("cannot set the clock")
    }

    fn environment(&self) -> [(&'static str, String); 4] {
        let text = |path: &Path| path.display().to_string();
        [
            ("LD_PRELOAD", text(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE", text(self.offset.path())),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }

    fn now(&self) -> Result<i64> {
        now(&self.environment())
    }

    fn is_seen_by(&self, pid: u32) -> Result<()> {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let name = self.library.file_name().context("a library has a name")?;
        ensure!(
            maps.contains(&*name.to_string_lossy()),
            "process {pid} has another clock"
        );
        Ok(())
    }
}

/// What `date` thinks in that environment, in seconds since 1970.
fn now(environment: &[(&'static str, String)]) -> Result<i64> {
    let environment = environment.iter().map(|(name, value)| (name, value));
    let date = Command::new("date")
        .arg("+%s")
        .envs(environment)
        .stdin(Stdio::null())
        .output()?;
    let printed = String::from_utf8_lossy(&date.stdout).into_owned();
    printed
        .trim()
        .parse()
        .with_context(|| format!("date printed {printed:?}"))
}

fn library() -> Result<PathBuf> {
    let in_directory = |directory: fs::DirEntry| {
        let path = directory.path().join("faketime/libfaketime.so.1");
        path.is_file().then_some(path)
    };
    let found = fs::read_dir("/usr/lib")?.flatten().find_map(in_directory);
    found.context("libfaketime is not installed: install the Debian package libfaketime (apt-get install libfaketime)")
}
