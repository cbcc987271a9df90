//! What a policy chooses among.

use std::sync::Arc;

use super::{ConnectivityState, Endpoint, Picker, Plan, Status};

/// An endpoint with its state, as a policy is to see it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Its connectivity state; `TransientFailure` as well when it is unhealthy or ejected.
    pub state: ConnectivityState,
    /// Why it fails, when it does.
    pub failure: Option<Arc<str>>,
}

/// The endpoints that a policy balances over, in the order of their ids.
#[derive(Debug, Clone, Copy)]
pub struct Endpoints<'a> {
    candidates: &'a [&'a Candidate],
    /// What was counted of them before, where nobody has come, gone or changed its state since.
    census: Option<&'a Census>,
}

/// Who of the endpoints is in which state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Census {
    ready: Arc<[Arc<Endpoint>]>,
    idle: Vec<Arc<Endpoint>>,
    connecting: bool,
}

impl<'a> Endpoints<'a> {
    /// These endpoints.
    pub fn new(candidates: &'a [&'a Candidate]) -> Self {
        Self {
            candidates,
            census: None,
        }
    }

    /// The same, of whom this is known.
    pub(crate) fn with_census(self, census: &'a Census) -> Self {
        Self {
            census: Some(census),
            ..self
        }
    }

    /// Counts who is in which state.
    pub(crate) fn census(&self) -> Census {
        if let Some(known) = self.census {
            return known.clone();
        }
        let mut ready = Vec::with_capacity(self.len());
        let (mut idle, mut connecting) = (Vec::new(), false);
        for candidate in self.iter() {
            match candidate.state {
                ConnectivityState::Ready => ready.push(Arc::clone(&candidate.endpoint)),
                ConnectivityState::Idle => idle.push(Arc::clone(&candidate.endpoint)),
                ConnectivityState::Connecting => connecting = true,
                ConnectivityState::TransientFailure | ConnectivityState::Shutdown => {}
            }
        }
        Census {
            ready: ready.into(),
            idle,
            connecting,
        }
    }

    /// Each endpoint with its state.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a Candidate> + use<'a> {
        self.candidates.iter().copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.candidates.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    /// Keeps all endpoints connected, and chooses by `picker` among those that are ready: what most policies want.
    ///
    /// While none is ready, calls wait for one that connects, and fail when none can be.
    pub fn connect_all(
        &self,
        picker: impl FnOnce(Arc<[Arc<Endpoint>]>) -> Arc<dyn Picker>,
    ) -> Plan {
        let census = self.census();
        let plan = if !census.ready.is_empty() {
            Plan::new(ConnectivityState::Ready, picker(census.ready))
        } else if census.connecting || !census.idle.is_empty() {
            Plan::connecting()
        } else {
            Plan::failing(self.failure())
        };
        plan.connecting_to(census.idle)
    }

    /// Why none of the endpoints can be reached.
    pub fn failure(&self) -> Status {
        const SHOWN: usize = 3;
        let causes: Vec<&str> = self.iter().filter_map(|c| c.failure.as_deref()).collect();
        let shown = causes[..causes.len().min(SHOWN)].join("; ");
        let more = match causes.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        Status::unavailable(format!("no instance can be reached: {shown}{more}"))
    }
}
