//! The task that keeps an endpoint connected, from the first wish to connect until it is idle again.

mod attempts;
mod followed;
mod health_watch;
mod load_watch;

use std::{future::pending, sync::Arc, time::Duration};

use futures_util::future::select_all;
use registry::{Backoff, Instance};
use tokio::{
    select,
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    ConnectivityState, Shared, SubchannelContext,
    pool::{Member, is_usable},
    shared::Standing,
    upkeep::Upkeep,
};
use crate::{
    health::Health,
    transport::{Availability, ConnectOptions, Connection},
};
use attempts::{Attempts, Ended};
use health_watch::HealthWatch;
use load_watch::LoadWatch;

/// A connection above the first is let go when it has had no stream for so long; at the latest after twice that.
const IDLE_FOR: Duration = Duration::from_secs(30);

pub(super) struct Worker {
    instance: Arc<Instance>,
    context: Arc<SubchannelContext>,
    shared: Arc<Shared>,
    turn: u64,
    upkeep: watch::Receiver<Upkeep>,
    /// The oldest first.
    members: Vec<Kept>,
    /// Whether the calls know of other members, or of members in other states.
    unpublished: bool,
    attempts: Attempts,
    /// Why the last attempt failed, until one succeeds.
    failure: Option<Arc<str>>,
    health: HealthWatch,
    reports: LoadWatch,
    /// When connections are let go that are not needed any more.
    next_look: Instant,
}

/// A connection, and what it was when it was looked at last.
struct Kept {
    member: Member,
    /// When it was begun.
    since: Instant,
    seen: Availability,
}

impl Worker {
    pub(super) fn new(
        instance: Arc<Instance>,
        options: Arc<ConnectOptions>,
        context: Arc<SubchannelContext>,
        shared: Arc<Shared>,
        turn: u64,
    ) -> Self {
        Self {
            attempts: {
                let backoff = shared.take_backoff();
                let backoff = backoff.unwrap_or_else(|| Backoff::new(context.backoff));
                Attempts::new(Arc::clone(&instance), options, backoff)
            },
            upkeep: context.upkeep.subscribe(),
            members: Vec::new(),
            unpublished: false,
            failure: None,
            health: HealthWatch::default(),
            reports: LoadWatch::new(shared.weak_endpoint()),
            next_look: Instant::now(),
            instance,
            context,
            shared,
            turn,
        }
    }

    pub(super) async fn run(mut self) {
        self.attempts.begin();
        loop {
            self.look_at_connections();
            if self.members.is_empty() && self.attempts.are_resting() {
                self.publish(Standing::new(ConnectivityState::Idle));
                return self.shared.keep_backoff(self.attempts.backoff());
            }
            if self.is_short_of_streams() {
                self.attempts.begin();
            }
            self.follow_server();
            self.publish(self.standing());
            self.next_event().await;
        }
    }

    fn look_at_connections(&mut self) {
        let mut waits = false;
        self.members.retain_mut(|kept| {
            let now = kept.member.availability();
            self.unpublished |= now != kept.seen;
            kept.seen = now;
            let goes_on = now != Availability::Closed;
            if !goes_on {
                kept.tell_end(&self.instance, &self.context);
                let served = kept.member.connection.has_answered();
                waits |= self.attempts.lost(kept.since, served);
            }
            goes_on
        });
        if waits {
            let address = self.instance.address();
            let why = format!("{address}: connections end as soon as they are made");
            self.failure = Some(why.into());
        }
    }

    /// gRFC A105: a call waits, no connection has a stream for it, and there may be another. One that is silent is none.
    fn is_short_of_streams(&self) -> bool {
        let most = self.upkeep.borrow().wanted.connections;
        self.shared.pool.has_waiting()
            && self.members.len() < most
            && self
                .members
                .iter()
                .all(|kept| kept.member.is_full() || !is_usable(kept.seen))
    }

    /// Asks the server, over its first connection, what is to be asked of it now.
    fn follow_server(&mut self) {
        let (check, reports) = {
            let upkeep = self.upkeep.borrow_and_update();
            (upkeep.health_check.clone(), upkeep.reports.clone())
        };
        let first = self.members.first().map(|kept| &kept.member.connection);
        self.health.follow(check, first);
        self.reports.follow(reports, first);
    }

    /// How the endpoint stands: gRFC A105's order.
    fn standing(&self) -> Standing {
        if self.members.iter().any(|kept| is_usable(kept.seen)) {
            return match self.health.verdict() {
                Some(Health::Serving) => Standing::new(ConnectivityState::Ready),
                Some(Health::NotServing(why)) => Standing::unhealthy(why),
                // gRFC A17: not READY before the first answer.
                None => Standing::new(ConnectivityState::Connecting),
            };
        }
        if !self.members.is_empty() {
            let address = self.instance.address();
            return Standing::failing(format!("{address}: does not answer").into());
        }
        match &self.failure {
            Some(why) => Standing::failing(Arc::clone(why)),
            None => Standing::new(ConnectivityState::Connecting),
        }
    }

    fn publish(&mut self, standing: Standing) {
        let waits_for_health =
            !self.members.is_empty() && standing.connectivity == ConnectivityState::Connecting;
        let members = (self.unpublished && !waits_for_health).then(|| {
            self.unpublished = false;
            self.members.iter().map(|k| k.member.clone()).collect()
        });
        if self.shared.publish(self.turn, standing, members) {
            self.context.changes.tell(&self.instance.id);
        }
    }

    /// Waits for whatever comes next, and sees to it.
    async fn next_event(&mut self) {
        let has_extras = self.members.len() > 1;
        select! {
            ended = self.attempts.ended(&self.shared.retry) => self.tried(ended),
            () = changed(&self.members) => {}
            () = self.shared.pool.wanted() => {}
            () = self.health.told() => {}
            never = self.reports.run() => match never {},
            _asked = self.upkeep.changed() => {}
            () = sleep_until(self.next_look), if has_extras => self.let_go_idle(),
        }
    }

    fn tried(&mut self, ended: Ended) {
        match ended {
            Ended::Connected { connection, since } => self.join(connection, since),
            Ended::Failed(why) => {
                let zone = self.instance.zone.as_ref();
                self.context.telemetry.not_connected(zone);
                self.failure = Some(why);
            }
            Ended::Waited if self.members.is_empty() => self.attempts.begin(),
            Ended::Waited => {}
        }
    }

    fn join(&mut self, connection: Connection, since: Instant) {
        let zone = self.instance.zone.as_ref();
        self.context.telemetry.connected(zone);
        self.failure = None;
        if self.members.len() == 1 {
            self.next_look = Instant::now() + IDLE_FOR;
        }
        self.members.push(Kept {
            member: Member::new(connection),
            since,
            seen: Availability::Open,
        });
        self.unpublished = true;
    }

    /// gRFC A105 leaves that to the server.
    fn let_go_idle(&mut self) {
        self.next_look = Instant::now() + IDLE_FOR;
        for Kept { member, .. } in &self.members[1..] {
            if member.take_idle() {
                member.connection.retire();
            }
        }
    }
}

impl Kept {
    fn tell_end(&self, instance: &Instance, context: &SubchannelContext) {
        let why = self.member.connection.why_ended();
        context.telemetry.disconnected(instance.zone.as_ref(), why);
    }
}

/// The endpoint is let go, and its connections with it.
impl Drop for Worker {
    fn drop(&mut self) {
        for kept in &self.members {
            kept.tell_end(&self.instance, &self.context);
        }
    }
}

/// Waits until a connection is no more what it was seen to be. Cancellation safe.
async fn changed(members: &[Kept]) {
    if members.is_empty() {
        return pending().await;
    }
    let each = members
        .iter()
        .map(|kept| Box::pin(kept.member.connection.changed(kept.seen)));
    select_all(each).await;
}
