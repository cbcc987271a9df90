//! Counts that are the same on every run, by valgrind: instructions, and allocations.

use std::{env, ffi::OsStr, process::Command};

use anyhow::{Context, Result, bail};

use crate::client::Job;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    Instructions,
    /// One that is made larger in place counts as another.
    Allocations,
    /// Bytes that are allocated when the process ends.
    Held,
}

impl Count {
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Instructions => &["--tool=callgrind", "--callgrind-out-file=/dev/null"],
            Self::Allocations | Self::Held => &[
                "--tool=memcheck",
                "--undef-value-errors=no",
                "--leak-check=no",
                // Rust's own threads and the exit in the middle of everything are no findings.
                "--run-libc-freeres=no",
            ],
        }
    }

    /// What stands before the number, and after it.
    fn marks(self) -> (&'static str, &'static str) {
        match self {
            Self::Instructions => ("Collected :", "\n"),
            Self::Allocations => ("total heap usage:", "allocs"),
            Self::Held => ("in use at exit:", "bytes"),
        }
    }

    fn read(self, log: &str) -> Option<f64> {
        let (before, after) = self.marks();
        let (_, rest) = log.split_once(before)?;
        let (number, _) = rest.split_once(after)?;
        number.trim().replace(',', "").parse().ok()
    }

    /// The count over a whole run of this program.
    pub(crate) fn of<S: AsRef<OsStr>>(self, args: impl IntoIterator<Item = S>) -> Result<f64> {
        let output = Command::new("valgrind")
            .args(self.options())
            .arg(env::current_exe()?)
            .args(args)
            .output()
            .context("cannot run valgrind, which counts this; install the package valgrind")?;
        let log = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("what valgrind ran has failed: {log}");
        }
        self.read(&log)
            .with_context(|| format!("valgrind counted nothing: {log}"))
    }

    /// The count for one call: the difference between two runs of different length, so that starting up counts for
    /// nothing. The job's own count is not looked at.
    pub(crate) fn per_call(self, job: &Job) -> Result<f64> {
        let (few, many) = (4_000_u32, 16_000_u32);
        let over = |count| {
            let job = Job {
                count,
                ..job.clone()
            };
            self.of(job.args())
        };
        Ok((over(many)? - over(few)?) / f64::from(many - few))
    }
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn what_valgrind_prints_is_read() {
        let log = "==1== Events    : Ir\n==1== Collected : 123456789\n==1== \n";
        assert_eq!(Count::Instructions.read(log), Some(123_456_789.0));
        let log = "==1== HEAP SUMMARY:\n==1==     in use at exit: 1,234 bytes in 5 blocks\n\
                   ==1==   total heap usage: 16,005 allocs, 16,000 frees, 3,045,678 bytes allocated\n";
        assert_eq!(Count::Held.read(log), Some(1_234.0));
        assert_eq!(Count::Allocations.read(log), Some(16_005.0));
        assert_eq!(Count::Instructions.read(log), None);
    }
}
