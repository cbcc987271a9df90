//! One process: started, read, signalled, and ended with its owner.

use std::{
    env, fmt,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{Id, WaitPidFlag, waitid},
    },
    time::{ClockId, clock_getcpuclockid},
    unistd::Pid,
};
use tokio::{sync::watch, time::timeout};

use crate::output::Output;
pub use crate::output::{Line, Lines};

/// How long a process may take to be gone after SIGKILL: the kernel's business alone.
const KILLED: Duration = Duration::from_secs(10);

/// A binary of this workspace, built by cargo beside the executable that asks.
pub fn binary(name: &str) -> Result<PathBuf> {
    let this = env::current_exe().context("cannot tell which executable this is")?;
    let directory = this.parent().context("the executable is in no directory")?;
    // Tests are in `deps`, examples in `examples`, one below the binaries.
    let directory = match directory.file_name().and_then(|n| n.to_str()) {
        Some("deps" | "examples") => directory.parent().unwrap_or(directory),
        _ => directory,
    };
    let path = directory.join(name);
    ensure!(
        path.is_file(),
        "there is no {name} in {}; build it first: cargo build -p {name}",
        directory.display()
    );
    Ok(path)
}

/// The program of that name on the PATH.
pub fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

/// A running process. Dropped, it is killed and reaped; if this process dies first, even by SIGKILL, the kernel kills
/// it (where `setpriv` of util-linux is installed, as it is on every Debian).
///
/// It is in a process group of its own: Ctrl-C on a terminal reaches its owner only. It belongs to no runtime: one made
/// in one test may be used from another.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    child: Arc<Mutex<Child>>,
    exit: watch::Receiver<Option<ExitStatus>>,
    output: Output,
}

impl Process {
    /// Starts `command`, whose output is read from now on; `name` stands in every error about it.
    pub fn spawn(name: impl Into<String>, command: Command) -> Result<Self> {
        let name = name.into();
        let program = command.get_program().to_owned();
        let (started, exit) = own(command)
            .with_context(|| format!("cannot start {name} ({})", Path::new(&program).display()))?;
        Ok(Self {
            name,
            pid: started.pid,
            child: started.child,
            exit,
            output: started.output,
        })
    }

    /// The name that it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// What it has computed so far, in user and in kernel mode, on all its threads: the same however busy the machine is.
    pub fn cpu_time(&self) -> Result<Duration> {
        let clock = clock_getcpuclockid(self.pid).and_then(ClockId::now);
        let time = clock.with_context(|| format!("{} has no clock any more", self.name))?;
        Ok(time.into())
    }

    /// What it has printed so far on both streams; of very much, the newest 10,000 lines.
    pub fn output(&self) -> Vec<Line> {
        self.output.kept()
    }

    /// Its lines one after another, from the first, as they come.
    pub fn lines(&self) -> Lines {
        self.output.lines()
    }

    /// Waits for a line that contains `text`, printed before or from now on, and returns it. An error when the process
    /// closes its output without one, or after `bound`; the error shows what it printed last.
    pub async fn wait_for_line(&self, text: &str, bound: Duration) -> Result<String> {
        self.wait_for(&format!("{text:?}"), |line| line.contains(text), bound)
            .await
    }

    /// The same for any line that `matches`; `what` says in the error what was looked for.
    pub async fn wait_for(
        &self,
        what: &str,
        matches: impl Fn(&str) -> bool,
        bound: Duration,
    ) -> Result<String> {
        let mut lines = self.lines();
        let found = timeout(bound, async {
            while let Some(line) = lines.next().await {
                if matches(&line.text) {
                    return Some(line.text.to_string());
                }
            }
            None
        });
        match found.await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => Err(self.complaint(&format!("ended without printing {what}"))),
            Err(_) => Err(self.complaint(&format!("has not printed {what} in {bound:?}"))),
        }
    }

    /// Sends a signal. An error when it has ended. After SIGSTOP it has stopped when this returns: its threads may run on
    /// for a moment otherwise, and answer.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // The lock keeps the process from being reaped, and its id from being given to another, in between.
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = child.try_wait()? {
            bail!(
                "cannot send {signal} to {}: it has ended with {status}",
                self.name
            );
        }
        kill(self.pid, signal).with_context(|| format!("cannot send {signal} to {}", self.name))?;
        if signal == Signal::SIGSTOP {
            wait_without_reaping(self.pid, WaitPidFlag::WSTOPPED);
        }
        Ok(())
    }

    /// Its exit status, when it has ended.
    pub fn try_wait(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Waits until it has ended, `bound` at most.
    pub async fn wait(&self, bound: Duration) -> Result<ExitStatus> {
        match timeout(bound, self.ended()).await {
            Ok(status) => status,
            Err(_) => Err(self.complaint(&format!("has not ended in {bound:?}"))),
        }
    }

    /// Waits until it has ended, `bound` at most, and gives its exit status and all lines that it printed on stdout.
    pub async fn printed(&self, bound: Duration) -> Result<(ExitStatus, Vec<String>)> {
        let status = self.wait(bound).await?;
        // Its last lines may be read after it has gone.
        let mut lines = self.lines();
        let mut printed = Vec::new();
        while let Some(line) = lines.next().await {
            if !line.stderr {
                printed.push(line.text.to_string());
            }
        }
        Ok((status, printed))
    }

    /// Waits until it has ended, for as long as that takes. Cancellation safe.
    pub async fn ended(&self) -> Result<ExitStatus> {
        let mut exit = self.exit.clone();
        let status = exit.wait_for(Option::is_some).await;
        status
            .ok()
            .and_then(|status| *status)
            .with_context(|| format!("how {} ended is not known", self.name))
    }

    /// Asks it to end (SIGTERM) and waits for that, `bound` at most.
    pub async fn terminate(&self, bound: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.try_wait() {
            return Ok(status);
        }
        self.signal(Signal::SIGTERM)?;
        self.wait(bound).await
    }

    /// Kills it (SIGKILL) and waits until it is gone. Nothing to do when it has ended.
    pub async fn kill(&self) -> Result<ExitStatus> {
        self.child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .kill()
            .with_context(|| format!("cannot kill {}", self.name))?;
        self.wait(KILLED).await
    }

    /// An error about this process that shows the end of what it printed.
    pub fn complaint(&self, problem: &str) -> anyhow::Error {
        let printed = self.output();
        let tail: Vec<_> = printed
            .iter()
            .rev()
            .take(20)
            .rev()
            .map(|line| &*line.text)
            .collect();
        anyhow!(
            "{} (pid {}) {problem}; it printed:\n{}",
            self.name,
            self.pid,
            tail.join("\n")
        )
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // `kill` of a child that has been reaped does nothing; an error is a child that is gone.
        if child.kill().is_ok() && child.wait().is_err() {
            eprintln!("{} (pid {}) could not be reaped", self.name, self.pid);
        }
    }
}

struct Started {
    pid: Pid,
    child: Arc<Mutex<Child>>,
    output: Output,
}

/// Starts the command on a thread that stays until the child has ended: the kernel sends the parent-death signal when
/// the *thread* that forked ends.
fn own(command: Command) -> Result<(Started, watch::Receiver<Option<ExitStatus>>)> {
    let (tell, told) = mpsc::channel();
    let (exited, exit) = watch::channel(None);
    thread::Builder::new().spawn(move || {
        let started = start(with_parent_death_signal(command));
        let watched = started.as_ref().ok().map(|s| (s.pid, Arc::clone(&s.child)));
        if tell.send(started).is_ok()
            && let Some((pid, child)) = watched
        {
            exited.send_replace(reap(pid, &child));
        }
    })?;
    Ok((
        told.recv().context("the thread that starts it is gone")??,
        exit,
    ))
}

fn start(mut command: Command) -> Result<Started> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let stdout = child.stdout.take().context("its stdout is piped")?;
    let stderr = child.stderr.take().context("its stderr is piped")?;
    Ok(Started {
        pid: Pid::from_raw(i32::try_from(child.id())?),
        child: Arc::new(Mutex::new(child)),
        output: Output::collect(stdout, stderr),
    })
}

fn reap(pid: Pid, child: &Mutex<Child>) -> Option<ExitStatus> {
    // The process id stays ours until the lock is held.
    wait_without_reaping(pid, WaitPidFlag::empty());
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    child.wait().ok()
}

/// Waits until the process has ended or does what `also` says.
fn wait_without_reaping(pid: Pid, also: WaitPidFlag) {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | also;
    while let Err(Errno::EINTR) = waitid(Id::Pid(pid), flags) {}
}

/// Becomes the command in `$@`, unless the parent in `$0` is gone: its death can have come before it was asked for.
const WITH_ITS_PARENT: &str = r#"[ "$PPID" = "$0" ] && exec "$@""#;

/// The same command, started by `setpriv` so that it dies with its parent: `prctl` in the child would need `unsafe`.
fn with_parent_death_signal(command: Command) -> Command {
    let Some(setpriv) = on_path("setpriv") else {
        return command;
    };
    // `setpriv` would turn a program that does not exist into its own exit code.
    let program = command.get_program();
    if !Path::new(program).is_file() && program.to_str().and_then(on_path).is_none() {
        return command;
    }
    let mut wrapped = Command::new(setpriv);
    wrapped
        .args(["--pdeathsig", "KILL", "--", "sh", "-c", WITH_ITS_PARENT])
        .arg(std::process::id().to_string())
        .arg(program)
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        wrapped.current_dir(directory);
    }
    wrapped
}
