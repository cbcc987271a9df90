//! A reader's watch of one service: look at all files once, then at those that the kernel names, and from time to
//! time at all of them again.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io, mem,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    select,
    time::{Instant, sleep_until},
};

use super::{
    Shared, blocking,
    followed_directory::FollowedDirectory,
    notify::{Mail, Mailbox},
    recheck::Recheck,
    sight::Sight,
};
use crate::{Change, ServiceName, StoreError, Update};

/// A watch. Holds no task: it lives in the stream that is made of it, and ends with that.
pub(super) struct Watcher {
    shared: Arc<Shared>,
    service: ServiceName,
    mailbox: Arc<Mailbox>,
    view: Arc<Mutex<View>>,
    /// When to look at everything without a reason.
    sweep: Instant,
    recheck: Recheck,
    is_first: bool,
}

/// What a look needs; locked only while one is taken.
struct View {
    directory: FollowedDirectory,
    sight: Sight,
}

/// Which files to look at.
enum Look {
    All { resubscribe: bool },
    At(BTreeSet<OsString>),
}

impl Watcher {
    pub(super) fn new(shared: Arc<Shared>, service: ServiceName) -> Self {
        let directory = shared.directory(&service);
        let mailbox = Arc::new(Mailbox::new(None));
        let view = View {
            sight: shared.sight(&directory, &service),
            directory: FollowedDirectory::new(&shared, directory, &mailbox),
        };
        Self {
            shared,
            service,
            mailbox,
            view: Arc::new(Mutex::new(view)),
            sweep: Instant::now(),
            recheck: Recheck::default(),
            is_first: true,
        }
    }

    /// The next change; the first is a reset.
    pub(super) async fn next(&mut self) -> Result<Change, StoreError> {
        loop {
            let what = if self.is_first {
                Look::All { resubscribe: true }
            } else {
                self.cause().await
            };
            let updates = self.look(what).await?;
            if !updates.is_empty() {
                return Ok(self.shared.change(updates));
            }
        }
    }

    /// Waits for a reason to look.
    async fn cause(&mut self) -> Look {
        select! {
            mail = self.mailbox.receive() => self.read(mail),
            () = sleep_until(self.sweep) => Look::All { resubscribe: false },
            names = self.recheck.due() => Look::At(names),
        }
    }

    fn read(&mut self, mail: Mail) -> Look {
        self.recheck.start(mail.closed);
        if mail.everything {
            Look::All {
                resubscribe: mail.unwatched,
            }
        } else {
            Look::At(mail.names)
        }
    }

    async fn look(&mut self, what: Look) -> Result<Vec<Update>, StoreError> {
        let view = Arc::clone(&self.view);
        let is_first = self.is_first;
        let is_all = matches!(what, Look::All { .. });
        let mut recheck = mem::take(&mut self.recheck);
        let looked = blocking(move || {
            let mut view = view.lock().unwrap_or_else(PoisonError::into_inner);
            let mut updates = view.look(what)?;
            if is_first {
                updates = vec![Update::Reset(view.sight.live().cloned().collect())];
            }
            recheck.go_on(|name| view.sight.is_live(name));
            Ok((updates, recheck, view.directory.period()))
        });
        let (updates, recheck, period) =
            looked
                .await
                .map_err(|error: io::Error| StoreError::WatchFailed {
                    service: self.service.clone(),
                    source: error.into(),
                })?;
        if is_all {
            self.sweep = Instant::now() + period;
        }
        self.recheck = recheck;
        self.is_first = false;
        Ok(updates)
    }
}

impl View {
    fn look(&mut self, what: Look) -> io::Result<Vec<Update>> {
        match what {
            Look::At(names) => self.sight.look_at(&names),
            Look::All { resubscribe } => {
                if resubscribe {
                    self.directory.follow_anew();
                } else {
                    self.directory.follow();
                }
                self.sight.look_at_all()
            }
        }
    }
}
