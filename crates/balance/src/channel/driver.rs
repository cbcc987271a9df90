//! The one task that keeps a channel's endpoints: follows the resolution and the subchannels, and publishes pickers.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use registry::{BackoffPolicy, Freshness};
use tokio::{
    runtime::Handle,
    select,
    time::{Instant, sleep, sleep_until},
};

use super::{
    InForce, Published, Shared,
    conduct::{Options, leniency, outliers, wanted},
    config_source::ConfigSource,
    ejection::Ejection,
    entries::Entries,
    idleness::Idleness,
    pace::Pace,
};
use crate::{
    load::RECENT,
    policy::{CallInfo, Endpoints, Pick, Picker, Plan, Policy, Queueing, around},
    resolver::{Resolution, Resolved, Unresolved},
    service_config::{Balancing, ServiceConfig},
    status::{Code, Status},
    subchannel::{Changes, ConnectivityState, ErrorPenalty, SubchannelContext, Upkeep},
    target::{Selector, Target},
};

/// The longest wait between two tries to connect an instance that its registry says lives.
const REGISTERED_BACKOFF: Duration = Duration::from_secs(2);

pub(super) struct Driver {
    shared: Arc<Shared>,
    resolution: Resolution,
    config: ConfigSource,
    options: Options,
    in_force: Arc<InForce>,
    /// What of it is about the policy.
    balancing: Balancing,
    policy: Box<dyn Policy>,
    context: Arc<SubchannelContext>,
    entries: Entries,
    ejection: Ejection,
    idleness: Idleness,
    unresolved: Option<Unresolved>,
    freshness: Freshness,
    /// When the policy plans again though nothing changes.
    again: Option<Duration>,
    /// When the picks so far cease to be recent.
    turn: Instant,
    pace: Pace,
}

impl Driver {
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) fn new(
        shared: Arc<Shared>,
        resolution: Resolution,
        config: ConfigSource,
        options: Options,
    ) -> Self {
        let context = Arc::new(SubchannelContext {
            backoff: backoff(resolution.registered),
            connect: shared.connect.clone(),
            runtime: Handle::current(),
            changes: Arc::new(Changes::default()),
            suspicious_row: AtomicU32::new(0),
            telemetry: shared.telemetry.clone(),
            head: shared.head.clone(),
            upkeep: Upkeep::channel(),
            reports_in_trailers: ErrorPenalty::default(),
        });
        let selector = match &shared.target {
            Target::Service { selector, .. } => selector.clone(),
            Target::Static { .. } => Selector::default(),
        };
        let balancing = options.balancing(&ServiceConfig::default());
        Self {
            resolution,
            config,
            policy: around::build(&balancing, options.zone.as_ref()),
            entries: Entries::new(
                Arc::clone(&context),
                selector,
                leniency(&balancing),
                Arc::clone(&shared.stats),
            ),
            balancing,
            in_force: Arc::clone(&shared.published.load().in_force),
            context,
            ejection: Ejection::new(Arc::clone(&shared.stats), shared.telemetry.clone()),
            idleness: Idleness::new(options.idle_timeout),
            options,
            shared,
            unresolved: Some(Unresolved::NotYet),
            freshness: Freshness::Starting,
            again: None,
            turn: Instant::now() + RECENT,
            pace: Pace::default(),
        }
    }

    /// Runs until the channel is closed and its last call has ended.
    pub(super) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let closed = shared.admission.closed();
        tokio::pin!(closed);
        let config = self.config.first().await;
        self.apply(config);
        let resolved = self.resolution.now();
        self.resolved(resolved);
        loop {
            let started = Instant::now();
            self.rebuild();
            select! {
                () = sleep(self.pace.pause(started.elapsed())) => {}
                () = &mut closed => break,
            }
            select! {
                resolved = self.resolution.changed() => self.resolved(resolved),
                config = self.config.changed() => self.apply(config),
                () = self.context.changes.told() => {}
                () = self.shared.called.notified() => self.idleness.end(),
                () = self.ejection.due() => {}
                () = self.idleness.due() => self.look_for_calls(),
                () = release(&self.entries) => {}
                () = after(self.again) => {}
                () = sleep_until(self.turn) => self.turn(),
                () = &mut closed => break,
            }
        }
    }

    /// Puts a service config in force.
    fn apply(&mut self, config: ServiceConfig) {
        let balancing = self.options.balancing(&config);
        self.entries.set_leniency(leniency(&balancing));
        let outliers = outliers(&balancing);
        self.ejection
            .configure(outliers, &self.context, &mut self.entries);
        if !around::are_alike(&balancing, &self.balancing) {
            self.policy = around::build(&balancing, self.options.zone.as_ref());
        }
        let reports = self.policy.load_reports();
        self.context.want(wanted(&config, &balancing, reports));
        self.in_force = Arc::new(InForce::after(&self.in_force, config));
        self.balancing = balancing;
    }

    fn resolved(&mut self, resolved: Resolved) {
        self.freshness = resolved.freshness;
        match resolved.instances {
            Ok(snapshot) => {
                self.entries.follow(snapshot);
                self.unresolved = None;
            }
            Err(unresolved) => self.unresolved = Some(unresolved),
        }
    }

    /// Lets every endpoint know that ten seconds are over.
    fn turn(&mut self) {
        let now = Instant::now();
        self.entries.endpoints().iter().for_each(|e| e.turn(now));
        self.turn = now + RECENT;
    }

    fn look_for_calls(&mut self) {
        let calls = self.entries.endpoints().iter().map(|e| e.picks()).sum();
        let in_flight = self.shared.admission.in_flight() > 0;
        if self.idleness.look(calls, in_flight) {
            tracing::debug!(channel = %self.shared.target, "idle: nobody has called for a while");
        }
    }

    fn rebuild(&mut self) {
        self.entries.refresh();
        self.ejection.look(&mut self.entries);
        self.entries.show();
        let plan = self.plan();
        self.again = plan.again;
        for endpoint in &plan.connect {
            endpoint.subchannel().connect();
        }
        for endpoint in &plan.rest {
            endpoint.subchannel().rest();
        }
        self.publish(plan);
    }

    fn plan(&mut self) -> Plan {
        let census = self.entries.census();
        let candidates = self.entries.candidates();
        if self.idleness.is_idle() {
            let all = candidates.iter().map(|c| Arc::clone(&c.endpoint));
            return Plan::new(ConnectivityState::Idle, Arc::new(Queueing)).resting(all.collect());
        }
        if !candidates.is_empty() {
            return self
                .policy
                .plan(&Endpoints::new(&candidates).with_census(&census));
        }
        match &self.unresolved {
            Some(Unresolved::NotYet) => Plan::connecting(),
            Some(Unresolved::Failed(cause)) => {
                Plan::failing(Status::unavailable(cause.to_string()))
            }
            None => {
                let nobody = self.resolution.nobody(self.entries.listed());
                Plan::failing(Status::unavailable(nobody))
            }
        }
    }

    fn publish(&mut self, plan: Plan) {
        let Plan {
            state,
            picker,
            barriers,
            ..
        } = plan;
        self.shared.published.store(Arc::new(Published {
            in_force: Arc::clone(&self.in_force),
            picker,
            policy: self.balancing.policy.shared_name(),
            endpoints: self.entries.endpoints(),
            barriers,
            remarks: self.entries.remarks(),
            freshness: self.freshness.clone(),
            listed: self.entries.list(),
            panicking: self.entries.is_panicking(),
        }));
        self.shared.has_config.store(true, Ordering::Release);
        self.shared.stats.rebuilt();
        // In this order: a call that waits looks at the state to know whether it has to end the channel's rest.
        self.shared.now_is(state);
        self.shared.generation.send_replace(());
    }
}

/// The end of the channel: it was closed, nobody has it any more, or its policy has panicked.
impl Drop for Driver {
    fn drop(&mut self) {
        self.entries.shut_down();
        let status = if thread::panicking() {
            tracing::error!(channel = %self.shared.target, "a policy panicked: the channel has ended");
            Status::new(Code::Internal, "the channel's policy has panicked")
        } else {
            Status::unavailable("the channel was closed")
        };
        self.publish(Plan::new(
            ConnectivityState::Shutdown,
            Arc::new(Closed(status)),
        ));
        self.shared.closed.cancel();
    }
}

/// Waits until somebody who is held on to has to go; for ever when there is nobody. Cancellation safe.
async fn release(entries: &Entries) {
    match entries.next_release() {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// Waits for so long; for ever where there is no end. Cancellation safe.
async fn after(period: Option<Duration>) {
    match period {
        Some(period) => sleep(period).await,
        None => pending().await,
    }
}

/// Fails all calls, whether or not they wait for ready.
struct Closed(Status);

impl Picker for Closed {
    fn pick(&self, _call: &CallInfo<'_>) -> Pick<'_> {
        Pick::Drop(&self.0)
    }
}

/// gRPC's connection backoff; shorter where a registry vouches that the instance lives.
fn backoff(registered: bool) -> BackoffPolicy {
    if registered {
        BackoffPolicy::GRPC.capped(REGISTERED_BACKOFF)
    } else {
        BackoffPolicy::GRPC
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::Mutex,
        task::{Context, Poll, Wake, Waker},
    };

    use registry::{Backoff, Registry, backend::memory::MemoryStore};

    use super::{Arc, BackoffPolicy, ConnectivityState, Duration, backoff, sleep};
    use crate::Channel;

    /// Notes the channel's state whenever it is woken.
    struct Watcher(Channel, Mutex<Vec<ConnectivityState>>);

    impl Wake for Watcher {
        fn wake(self: Arc<Self>) {
            self.1.lock().expect("no panic").push(self.0.state());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_a_picker_wakes_sees_the_state_that_comes_with_it() {
        let builder = Channel::builder("greeter").registry(&Registry::new(MemoryStore::new()));
        let builder = builder.idle_timeout(Duration::from_secs(2));
        let channel = builder.build().expect("a channel");
        sleep(Duration::from_secs(1)).await;
        assert_eq!(channel.state(), ConnectivityState::TransientFailure);
        let watcher = Arc::new(Watcher(channel.clone(), Mutex::default()));
        let mut generation = channel.inner.shared.generation.subscribe();
        let mut next = pin!(generation.changed());
        let waker = Waker::from(Arc::clone(&watcher));
        let polled = next.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(matches!(polled, Poll::Pending));
        sleep(Duration::from_secs(2)).await;
        let seen = watcher.1.lock().expect("no panic");
        assert_eq!(*seen, [ConnectivityState::Idle]);
    }

    #[tokio::test]
    async fn an_instance_whose_registry_says_that_it_lives_is_tried_each_two_seconds_at_least() {
        let mut waits = Backoff::new(backoff(true));
        assert!((0..100).all(|_| waits.next_delay() <= Duration::from_secs(2)));
        assert_eq!(backoff(false), BackoffPolicy::GRPC);
    }
}
