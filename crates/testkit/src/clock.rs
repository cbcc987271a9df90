//! A wall clock that is wrong, for processes that are given it: by libfaketime, and never the machine's own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;

/// A wall clock for those who are given its environment.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    offset: NamedTempFile,
}

impl Clock {
    /// One that is right until it is [set](Self::set).
    ///
    /// # Errors
    /// When libfaketime is not installed, or does not do what it should.
    pub fn new() -> Result<Self> {
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

    /// From now on it is so far from the machine's: `+1h`, `-90s`, `+0`.
    ///
    /// # Errors
    /// When its file cannot be written.
    pub fn set(&self, offset: &str) -> Result<()> {
        fs::write(self.offset.path(), offset).context("cannot set the clock")
    }

    /// What a process is given that is to go by it. Its monotonic clock stays the machine's.
    pub fn environment(&self) -> [(&'static str, String); 4] {
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

    /// Whether that process goes by it.
    ///
    /// # Errors
    /// When it does not, or is not there.
    pub fn is_seen_by(&self, pid: u32) -> Result<()> {
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
