//! The member in use, and moving on from it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{
    connection::{Connection, Pass},
    credentials::Credentials,
    failure::Failure,
    link::Link,
    order::Order,
    tls::Tls,
};
use crate::Address;

/// The members, and the connection to the one in use.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) tls: Option<Arc<Tls>>,
    credentials: Option<Arc<Credentials>>,
    current: Mutex<Current>,
    /// Told when a member was left.
    pub(super) left: Notify,
}

#[derive(Debug)]
struct Current {
    /// How many members were left.
    turn: usize,
    order: Order,
    link: Option<Link>,
}

impl Ring {
    pub(super) fn new(
        members: Vec<Address>,
        tls: Option<Arc<Tls>>,
        credentials: Option<Arc<Credentials>>,
    ) -> Self {
        let current = Current {
            turn: 0,
            order: Order::new(members),
            link: None,
        };
        Self {
            tls,
            credentials,
            current: Mutex::new(current),
            left: Notify::new(),
        }
    }

    /// The connection in use. Does no I/O, unless a token is to be fetched.
    pub(super) async fn connection(&self) -> Result<Connection, Failure> {
        let (turn, member, link) = self.link();
        let connected = self.connect(turn, member, link).await;
        connected.inspect_err(|failure| {
            if failure.is_members() {
                self.leave_turn(turn);
            }
        })
    }

    /// The same, and without a token when etcd gives none.
    pub(super) async fn connection_for_leases(&self) -> Result<Connection, Failure> {
        match self.connection().await {
            Err(failure) if !failure.is_members() => {
                let (turn, member, link) = self.link();
                Connection::new(turn, member, link, None).await
            }
            result => result,
        }
    }

    /// A connection to a member that may never be in use.
    pub(super) async fn try_out(&self, member: &Address) -> Result<Connection, Failure> {
        let link = Link::new(member, self.tls.as_ref());
        self.connect(usize::MAX, member.clone(), link).await
    }

    async fn connect(
        &self,
        turn: usize,
        member: Address,
        link: Link,
    ) -> Result<Connection, Failure> {
        let pass = match &self.credentials {
            None => None,
            Some(credentials) => Some(Pass {
                credentials: Arc::clone(credentials),
                token: credentials.token(&member, &link).await?,
            }),
        };
        Connection::new(turn, member, link, pass).await
    }

    fn link(&self) -> (usize, Address, Link) {
        let mut current = self.current();
        let member = current.order.current().clone();
        let link = current
            .link
            .get_or_insert_with(|| Link::new(&member, self.tls.as_ref()))
            .clone();
        (current.turn, member, link)
    }

    /// Moves on to the next member, unless somebody has since that connection was given, or nothing was wrong but its
    /// token.
    pub(super) fn leave(&self, connection: &Connection) {
        if !connection.has_lost_its_token() {
            self.leave_turn(connection.turn);
        }
    }

    fn leave_turn(&self, turn: usize) {
        let mut current = self.current();
        if current.turn == turn {
            tracing::debug!(member = %current.order.current(), "leaving an etcd member");
            let left = current.link.take();
            let has_answered = left.is_some_and(|link| link.has_answered());
            current.order.advance(has_answered);
            current.turn += 1;
            self.left.notify_one();
        }
    }

    /// All that there are to try.
    pub(super) fn members(&self) -> Vec<Address> {
        self.current().order.members()
    }

    /// How many members there are to try.
    pub(super) fn len(&self) -> usize {
        self.current().order.len()
    }

    pub(super) fn is_configured(&self, member: &Address) -> bool {
        self.current().order.is_configured(member)
    }

    pub(super) fn has_learned(&self, member: &Address) -> bool {
        self.current().order.has_learned(member)
    }

    /// Has these for those that were learned before.
    pub(super) fn learn(&self, members: Vec<Address>) {
        self.current().order.learn(members);
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `request` does on the connection in use; on a failure of the member's that is left.
    pub(super) async fn call<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        request: impl Fn(Connection) -> F,
    ) -> Result<T, Failure> {
        let connection = self.connection().await?;
        let result = request(connection.clone()).await;
        if result.as_ref().is_err_and(Failure::is_members) {
            self.leave(&connection);
        }
        result
    }
}
