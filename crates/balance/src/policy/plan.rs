//! What a policy makes of its endpoints.

use std::{sync::Arc, time::Duration};

use super::{CallInfo, ConnectivityState, Endpoint, Pick, Picker, Status};

/// What a policy makes of the endpoints as they are now.
#[derive(Clone)]
#[non_exhaustive]
pub struct Plan {
    /// The channel's state.
    pub state: ConnectivityState,
    /// What chooses from now on.
    pub picker: Arc<dyn Picker>,
    /// Those that are idle and are to be connected.
    pub connect: Vec<Arc<Endpoint>>,
    /// Those whose connections are not needed any more.
    pub rest: Vec<Arc<Endpoint>>,
    /// When to plan again though nothing has changed.
    pub again: Option<Duration>,
    /// Who keeps calls from some of the endpoints.
    pub(crate) barriers: Vec<Barrier>,
}

/// Tells why calls are kept from an endpoint by what goes around a policy, where they are.
pub(crate) type Barrier = Arc<dyn Fn(&Endpoint) -> Option<String> + Send + Sync>;

impl Plan {
    /// The channel is in `state`, and `picker` chooses.
    pub fn new(state: ConnectivityState, picker: Arc<dyn Picker>) -> Self {
        Self {
            state,
            picker,
            connect: Vec::new(),
            rest: Vec::new(),
            again: None,
            barriers: Vec::new(),
        }
    }

    /// Calls wait.
    pub fn connecting() -> Self {
        Self::new(ConnectivityState::Connecting, Arc::new(Queueing))
    }

    /// Calls fail with `status`, unless they wait for ready.
    pub fn failing(status: Status) -> Self {
        Self::new(
            ConnectivityState::TransientFailure,
            Arc::new(Failing(status)),
        )
    }

    /// The same, and `endpoints` are to be connected.
    #[must_use]
    pub fn connecting_to(self, endpoints: Vec<Arc<Endpoint>>) -> Self {
        Self {
            connect: endpoints,
            ..self
        }
    }

    /// The same, and the policy plans again after so long, though nothing has changed until then.
    #[must_use]
    pub fn again_in(self, period: Duration) -> Self {
        Self {
            again: Some(period),
            ..self
        }
    }

    /// The same, and `barrier` tells of whom calls are kept from.
    #[must_use]
    pub(crate) fn behind(
        mut self,
        barrier: impl Fn(&Endpoint) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.barriers.push(Arc::new(barrier));
        self
    }

    /// The same, and `endpoints` need no connection any more.
    #[must_use]
    pub fn resting(self, endpoints: Vec<Arc<Endpoint>>) -> Self {
        Self {
            rest: endpoints,
            ..self
        }
    }
}

/// Makes calls wait for the next picker.
pub(crate) struct Queueing;

impl Picker for Queueing {
    fn pick(&self, _call: &CallInfo<'_>) -> Pick<'_> {
        Pick::Queue
    }
}

/// Fails calls, all with the same status.
struct Failing(Status);

impl Picker for Failing {
    fn pick(&self, _call: &CallInfo<'_>) -> Pick<'_> {
        Pick::Fail(&self.0)
    }
}
