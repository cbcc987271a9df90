//! What systemd is told, or whoever else starts the process and gives it a `NOTIFY_SOCKET`: that it serves, how its registration
//! stands, that it ends, and that it is alive ([protocol](https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html)).
//!
//! ```text
//! not ready    STATUS=…, EXTEND_TIMEOUT_USEC=… again and again: it goes on trying, and is not to be started anew for that
//! ready        READY=1, STATUS=…
//! draining     STOPPING=1, STATUS=…, EXTEND_TIMEOUT_USEC=…: for as long as it may take
//! always       WATCHDOG=1, twice in the time that is asked for
//! ```

use std::{
    env,
    ffi::OsStr,
    fmt::Write as _,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{ffi::OsStrExt as _, net},
    },
    path::Path,
    process,
    time::Duration,
};

use registry::RegistrationState;
use tokio::{
    net::UnixDatagram,
    select,
    sync::watch,
    time::{Interval, MissedTickBehavior, interval, timeout},
};

use crate::{
    lifecycle::{Phase, Standing},
    terminal::printable,
};

/// A start that has not come to its end is said to need this much longer, three times in that time.
const EXTENSION: Duration = Duration::from_secs(30);
/// How long systemd may take to make room for a message.
const SENT_WITHIN: Duration = Duration::from_secs(1);

/// Who has started this process, and wants to know.
#[derive(Debug)]
pub(crate) struct Manager {
    socket: UnixDatagram,
    watchdog: Option<Duration>,
}

impl Manager {
    /// The one that this process's environment tells of; `None` where nobody wants to know, and where nobody can be told: the
    /// variable may be left over from whoever started a shell.
    pub(crate) fn of_process() -> Option<Self> {
        let socket = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())?;
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        let is_meant = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|micros| is_meant && *micros > 0);
        Self::at(&socket, watchdog.map(Duration::from_micros))
            .inspect_err(|error| {
                let socket = socket.display();
                tracing::warn!(%error, "cannot use NOTIFY_SOCKET={socket}: no service manager is told how this stands");
            })
            .ok()
    }

    /// The one that listens there, a path or `@` and an abstract name, and wants to hear from us within `watchdog`.
    fn at(name: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => net::SocketAddr::from_abstract_name(name)?,
            _ => net::SocketAddr::from_pathname(Path::new(name))?,
        };
        let socket = net::UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: UnixDatagram::from_std(socket)?,
            watchdog,
        })
    }

    /// Tells how things stand, for as long as it is polled; `end_within` is what an end in order may take.
    ///
    /// It is a task like those that serve: when the runtime gets none of them on, nobody says that the process is alive.
    pub(crate) async fn keep_told(self, standing: Standing, end_within: Duration) {
        let mut changes = Changes::of(&standing);
        let mut watchdog = self.watchdog.map(|within| ticks(within / 2));
        let mut extension = ticks(EXTENSION / 3);
        let (mut told, mut is_ready, mut is_ending) = (String::new(), false, false);
        loop {
            let mut news = String::new();
            let ready = standing.ready();
            let becomes_ready = !is_ready && ready.is_ok();
            let how = match ready {
                Ok(()) => "registered and serving".to_owned(),
                // A registry may have said that in lines, of which each would be a message.
                Err(why) => printable(&why),
            };
            if becomes_ready {
                is_ready = true;
                news.push_str("READY=1\n");
            }
            if !is_ending && standing.phase().is_ending() {
                is_ending = true;
                // Those that a manager waits for while it starts a service are told that it is up to this point.
                let _ = write!(news, "STOPPING=1\n{}", extend(end_within));
            }
            if how != told {
                let _ = writeln!(news, "STATUS={how}");
                told = how;
            }
            self.send(&news).await;
            select! {
                () = changes.next(&standing) => {}
                () = tick(watchdog.as_mut()) => self.send("WATCHDOG=1\n").await,
                _ = extension.tick(), if !is_ready && !is_ending => self.send(&extend(EXTENSION)).await,
            }
        }
    }

    /// What cannot be said is logged: a manager that is gone ends us by itself.
    async fn send(&self, news: &str) {
        if news.is_empty() {
            return;
        }
        match timeout(SENT_WITHIN, self.socket.send(news.as_bytes())).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, news, "the service manager cannot be told"),
            Err(_) => tracing::debug!(news, "the service manager takes no message"),
        }
    }
}

fn extend(by: Duration) -> String {
    format!("EXTEND_TIMEOUT_USEC={}\n", by.as_micros())
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn tick(ticks: Option<&mut Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => std::future::pending().await,
    }
}

/// Whatever makes a difference to how an instance stands.
struct Changes {
    phase: watch::Receiver<Phase>,
    readiness: watch::Receiver<Result<(), std::sync::Arc<str>>>,
    registration: Option<watch::Receiver<RegistrationState>>,
}

impl Changes {
    fn of(standing: &Standing) -> Self {
        Self {
            phase: standing.phases(),
            readiness: standing.readiness(),
            registration: None,
        }
    }

    /// Waits for the next. Cancellation safe.
    async fn next(&mut self, standing: &Standing) {
        if self.registration.is_none() {
            self.registration = standing.registrations();
        }
        select! {
            () = change(Some(&mut self.phase)) => {}
            () = change(Some(&mut self.readiness)) => {}
            () = change(self.registration.as_mut()) => {}
        }
    }
}

/// What has ended changes no more.
async fn change<T>(of: Option<&mut watch::Receiver<T>>) {
    let is_over = match of {
        Some(of) => of.changed().await.is_err(),
        None => true,
    };
    if is_over {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixDatagram, sync::mpsc, time::Duration};

    use super::Manager;
    use crate::lifecycle::{Readiness, Standing};

    const WATCHDOG: Duration = Duration::from_millis(200);
    /// More than a message takes on a busy machine.
    const BOUND: Duration = Duration::from_secs(20);

    fn next(manager: &UnixDatagram, within: Duration) -> Option<String> {
        let mut message = [0; 512];
        manager.set_read_timeout(Some(within)).expect("a time");
        let length = manager.recv(&mut message).ok()?;
        Some(String::from_utf8_lossy(&message[..length]).into_owned())
    }

    fn until(manager: &UnixDatagram, part: &str) {
        while !next(manager, BOUND)
            .unwrap_or_else(|| panic!("no {part}"))
            .contains(part)
        {}
    }

    #[test]
    fn a_runtime_that_gets_no_task_on_is_not_said_to_be_alive() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("a socket");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let standing = Standing::new(Readiness::new());
        runtime.spawn(async move {
            let told = Manager::at(path.as_os_str(), Some(WATCHDOG)).expect("it listens");
            told.keep_told(standing, BOUND).await;
        });
        until(&manager, "STATUS=starting");
        until(&manager, "WATCHDOG=1");

        let (begun, has_begun) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        runtime.spawn(async move {
            begun.send(()).expect("somebody waits");
            // Either it is released, or the test is over.
            let _ = released.recv();
        });
        has_begun
            .recv_timeout(BOUND)
            .expect("the only worker is blocked");
        // What was said before is still to be read.
        manager.set_nonblocking(true).expect("it can be");
        while manager.recv(&mut [0; 512]).is_ok() {}
        manager.set_nonblocking(false).expect("it can be");
        assert_eq!(next(&manager, WATCHDOG * 4), None);

        release.send(()).expect("it is blocked");
        until(&manager, "WATCHDOG=1");
        runtime.shutdown_background();
    }

    #[tokio::test]
    async fn a_manager_at_an_abstract_name_is_told_as_well() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("service-kit-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
        let manager = UnixDatagram::bind_addr(&address).expect("a socket");
        let told = Manager::at(format!("@{name}").as_ref(), None).expect("it listens");
        told.send("READY=1\n").await;
        assert_eq!(next(&manager, BOUND).as_deref(), Some("READY=1\n"));
    }
}
