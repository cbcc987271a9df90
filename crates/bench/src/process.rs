//! What the system says of this process.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use nix::sys::{
    resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit},
    time::TimeVal,
};

/// What this process has computed so far, in user and in kernel mode, on all its threads.
pub(crate) fn cpu_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = |time: TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    Ok(Duration::from_micros(u64::try_from(
        micros(usage.user_time()) + micros(usage.system_time()),
    )?))
}

/// The memory that this process has in RAM, in bytes.
pub(crate) fn resident() -> Result<f64> {
    let status =
        fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let kib = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?
            .trim()
            .strip_suffix(" kB")?
            .parse::<f64>()
            .ok()
    });
    Ok(kib.context("/proc/self/status has no VmRSS in kB")? * 1024.0)
}

/// Lets this process, and those that it starts, open `wanted` files and some more for itself.
pub(crate) fn allow_open_files(wanted: u32) -> Result<()> {
    let wanted = u64::from(wanted) + 200;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(
        wanted <= hard,
        "a process may open {hard} files here, and {wanted} are needed; raise the hard limit (ulimit -Hn), or ask for \
         fewer --endpoints"
    );
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(wanted), hard)
        .context("cannot raise the limit of open files")
}
