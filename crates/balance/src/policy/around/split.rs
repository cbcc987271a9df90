//! Two parts of the endpoints, each with a policy of its own, and a route for each call.

use std::{collections::HashSet, sync::Arc};

use crate::policy::{
    CallInfo, Candidate, ConnectivityState, Endpoint, Endpoints, LoadReports, Pick, Picker, Plan,
    Policy,
};

/// Which endpoints are the part that is told apart, and which calls go there.
pub(super) trait Route: Send {
    /// How it is decided for a call.
    type Router: Router + 'static;

    /// Whether the endpoint belongs to that part.
    fn owns(&self, endpoint: &Endpoint) -> bool;

    /// What is told of an endpoint that gets no calls because all go to the other part, the one that is told apart or not.
    fn why_none(&self, all_to_part: bool) -> String;

    /// How calls go as the two parts are now.
    fn router(&self, part: &Endpoints<'_>, rest: &Endpoints<'_>) -> Self::Router;
}

/// Decides for each call, when both parts can take it.
pub(super) trait Router: Send + Sync {
    /// Whether the call goes to the part that is told apart.
    fn takes(&self, call: &CallInfo<'_>) -> bool;

    /// Where all calls go that do not ask for anything else: whether to the part that is told apart.
    fn takes_all(&self) -> Option<bool>;
}

pub(super) struct Split<R> {
    route: R,
    part: Box<dyn Policy>,
    rest: Box<dyn Policy>,
}

impl<R: Route> Split<R> {
    pub(super) fn new(route: R, part: Box<dyn Policy>, rest: Box<dyn Policy>) -> Self {
        Self { route, part, rest }
    }
}

impl<R: Route> Policy for Split<R> {
    fn plan(&mut self, endpoints: &Endpoints<'_>) -> Plan {
        let (part, rest): (Vec<&Candidate>, Vec<&Candidate>) = endpoints
            .iter()
            .partition(|candidate| self.route.owns(&candidate.endpoint));
        let (part, rest) = (Endpoints::new(&part), Endpoints::new(&rest));
        if part.is_empty() {
            return self.rest.plan(&rest);
        }
        if rest.is_empty() {
            return self.part.plan(&part);
        }
        let router = self.route.router(&part, &rest);
        let left_out = router.takes_all().map(|all_to_part| {
            let left_out = if all_to_part { &rest } else { &part };
            let serials: HashSet<u64> = left_out.iter().map(|c| c.endpoint.serial()).collect();
            (serials, self.route.why_none(all_to_part))
        });
        let plan = together(self.part.plan(&part), self.rest.plan(&rest), router);
        match left_out {
            Some((serials, why)) => plan
                .behind(move |endpoint| serials.contains(&endpoint.serial()).then(|| why.clone())),
            None => plan,
        }
    }

    fn load_reports(&self) -> Option<LoadReports> {
        self.part.load_reports()
    }
}

/// One plan of two, as gRPC's `weighted_target` aggregates (gRFC A28): the better state is the whole's, and calls go only
/// where it is that state.
fn together(mut part: Plan, mut rest: Plan, router: impl Router + 'static) -> Plan {
    let (one, other) = (promise(part.state), promise(rest.state));
    let picker: Arc<dyn Picker> = match one.cmp(&other) {
        std::cmp::Ordering::Greater => part.picker,
        std::cmp::Ordering::Less => rest.picker,
        std::cmp::Ordering::Equal => Arc::new(Routed {
            router,
            part: part.picker,
            rest: rest.picker,
        }),
    };
    let state = if one >= other { part.state } else { rest.state };
    let connecting = [part.state, rest.state].contains(&ConnectivityState::Connecting);
    let state = match state {
        ConnectivityState::Idle if connecting => ConnectivityState::Connecting,
        state => state,
    };
    part.connect.append(&mut rest.connect);
    part.rest.append(&mut rest.rest);
    part.barriers.append(&mut rest.barriers);
    Plan {
        state,
        picker,
        again: part.again.into_iter().chain(rest.again).min(),
        ..part
    }
}

/// How soon calls can be made there.
fn promise(state: ConnectivityState) -> u8 {
    match state {
        ConnectivityState::Ready => 2,
        ConnectivityState::Connecting | ConnectivityState::Idle => 1,
        ConnectivityState::TransientFailure | ConnectivityState::Shutdown => 0,
    }
}

struct Routed<R> {
    router: R,
    part: Arc<dyn Picker>,
    rest: Arc<dyn Picker>,
}

impl<R: Router> Picker for Routed<R> {
    fn pick(&self, call: &CallInfo<'_>) -> Pick<'_> {
        if self.router.takes(call) {
            self.part.pick(call)
        } else {
            self.rest.pick(call)
        }
    }

    fn passes_over(&self) -> bool {
        self.part.passes_over() && self.rest.passes_over()
    }
}
