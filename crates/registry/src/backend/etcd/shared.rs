//! One watch of a namespace, shared by all that is followed below it.
//!
//! Whoever begins to follow something joins first and lists then: what the list has not seen comes from the watch after it.
//! Lists are on the connection of the watch. When the watch breaks, all who follow by it are told why, and each lists again,
//! a few at a time. It ends when nobody follows anything by it any more.

mod followers;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use etcd_client::KeyValue;
use tokio::{select, sync::watch};
use tokio_util::task::AbortOnDropHandle;

use self::followers::{Followers, Ticket};
use super::{
    events::Events,
    list::{Range, count},
    members::{Connection, Failure, Members},
    turns::{Turn, Turns},
};

/// The shared watch of one namespace: the one that runs, or the next.
#[derive(Debug)]
pub(super) struct Shared {
    members: Arc<Members>,
    range: Range,
    quiet: Duration,
    running: Mutex<Weak<Running>>,
    turns: Arc<Turns>,
}

/// A watch that runs for as long as anybody has it.
#[derive(Debug)]
struct Running {
    state: watch::Receiver<State>,
    followers: Arc<Followers>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug, Clone)]
enum State {
    Opening,
    Open(Arc<Connection>),
    Over(Failure),
}

impl Shared {
    /// Nothing yet; whoever is first starts it. `range` is that of a namespace.
    pub(super) fn new(
        members: Arc<Members>,
        range: Range,
        quiet: Duration,
        turns: Arc<Turns>,
    ) -> Self {
        Self {
            members,
            range,
            quiet,
            running: Mutex::default(),
            turns,
        }
    }

    /// Whether what happens in `range` happens in the namespace.
    pub(super) fn covers(&self, (first, end): &Range) -> bool {
        self.range.0 <= *first && *end <= self.range.1
    }

    /// Joins those who follow by it, when it is this one's turn to list.
    pub(super) async fn join(self: &Arc<Self>, range: Range) -> Result<Joining<'_>, Failure> {
        let running = self.running();
        let connection = running.open().await?;
        let turn = select! {
            turn = self.turns.take() => turn,
            failure = running.over() => return Err(failure),
        };
        // Once it is over nobody joins.
        let Some(ticket) = Followers::join(&running.followers, range) else {
            return Err(running.over().await);
        };
        let part = Part {
            shared: Arc::clone(self),
            running,
            connection,
            ticket,
            known: 0,
        };
        Ok(Joining { part, _turn: turn })
    }

    fn running(&self) -> Arc<Running> {
        let mut running = self.lock();
        if let Some(running) = running.upgrade()
            && !running.is_over()
        {
            return running;
        }
        let started = Arc::new(self.start());
        *running = Arc::downgrade(&started);
        started
    }

    fn start(&self) -> Running {
        let (tell, state) = watch::channel(State::Opening);
        let followers = Arc::default();
        let (members, range, quiet) = (Arc::clone(&self.members), self.range.clone(), self.quiet);
        let told = Arc::clone(&followers);
        let task = tokio::spawn(async move {
            let failure = Box::pin(run(&members, range, quiet, &told, &tell)).await;
            tracing::debug!(%failure, "a shared watch is over");
            tell.send_replace(State::Over(failure));
            // After its cause is there.
            told.close();
        });
        Running {
            state,
            followers,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Has those who come next start another one.
    fn retire(&self, retired: &Arc<Running>) {
        let mut running = self.lock();
        if running.as_ptr() == Arc::as_ptr(retired) {
            *running = Weak::new();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Weak<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn is_over(&self) -> bool {
        matches!(*self.state.borrow(), State::Over(_))
    }

    /// Waits until it has begun, and tells on which connection.
    async fn open(&self) -> Result<Arc<Connection>, Failure> {
        self.until(|state| match state {
            State::Opening => None,
            State::Open(connection) => Some(Ok(Arc::clone(connection))),
            State::Over(failure) => Some(Err(failure.clone())),
        })
        .await
    }

    /// Waits until it is over, and tells why.
    async fn over(&self) -> Failure {
        self.until(|state| match state {
            State::Opening | State::Open(_) => None,
            State::Over(failure) => Some(failure.clone()),
        })
        .await
    }

    async fn until<T>(&self, wanted: impl Fn(&State) -> Option<T>) -> T {
        let mut state = self.state.clone();
        loop {
            if let Some(found) = wanted(&state.borrow_and_update()) {
                return found;
            }
            state.changed().await.expect("its task tells its end");
        }
    }
}

/// Tells all that happens to those whom it concerns, until it breaks.
async fn run(
    members: &Members,
    range: Range,
    quiet: Duration,
    followers: &Followers,
    tell: &watch::Sender<State>,
) -> Failure {
    let connection = match members.connection().await {
        Ok(connection) => Arc::new(connection),
        Err(failure) => return failure,
    };
    let Err(failure) = follow(Arc::clone(&connection), range, quiet, followers, tell).await;
    members.leave(&connection, &failure);
    failure
}

async fn follow(
    connection: Arc<Connection>,
    range: Range,
    quiet: Duration,
    followers: &Followers,
    tell: &watch::Sender<State>,
) -> Result<Infallible, Failure> {
    let read = count(&connection, range.clone()).await?;
    let mut events = Events::open(Arc::clone(&connection), range, read, quiet).await?;
    tell.send_replace(State::Open(connection));
    loop {
        let message = events.next().await?;
        followers.tell(message.events().iter().filter_map(|event| event.kv()));
    }
}

/// Whose turn it is to list, and who is told from now on what happens.
pub(super) struct Joining<'a> {
    part: Part,
    _turn: Turn<'a>,
}

impl Joining<'_> {
    /// Where to list.
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.part.connection
    }

    /// Takes what comes after the revision of the list.
    pub(super) fn listed(self, revision: i64) -> Part {
        Part {
            known: revision,
            ..self.part
        }
    }

    /// As [`Part::leave`].
    pub(super) fn leave(&self, failure: &Failure) {
        self.part.leave(failure);
    }
}

/// What one follower is told of what the shared watch tells.
#[derive(Debug)]
pub(super) struct Part {
    shared: Arc<Shared>,
    running: Arc<Running>,
    connection: Arc<Connection>,
    ticket: Ticket,
    /// Up to which revision everything is known.
    known: i64,
}

impl Part {
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The next that has happened to what is followed. Fails when the shared watch has, or when too much has come that was
    /// not asked for. Cancellation safe.
    pub(super) async fn next(&mut self) -> Result<Vec<KeyValue>, Failure> {
        while let Some(mut told) = self.ticket.next().await {
            told.retain(|kv| kv.mod_revision() > self.known);
            if !told.is_empty() {
                return Ok(told);
            }
        }
        match &*self.running.state.borrow() {
            State::Over(failure) => Err(failure.clone()),
            State::Opening | State::Open(_) => Err(self.connection.complaint(
                "more has come from the shared watch than could be kept until it is read",
            )),
        }
    }

    /// Says that a request on this connection has failed: those who come next use another member. The others go on.
    pub(super) fn leave(&self, failure: &Failure) {
        if failure.is_members() {
            self.shared.members.leave(&self.connection, failure);
            self.shared.retire(&self.running);
        }
    }
}
