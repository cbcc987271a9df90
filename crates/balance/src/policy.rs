//! Which endpoint a call goes to.
//!
//! A [`Policy`] sees the endpoints with their states, says which are to be connected, and builds an immutable
//! [`Picker`]; the picker chooses for one call, on the caller's own task, without a lock. They know
//! weights, counters, states and the time, no socket and no task.

mod alias;
pub(crate) mod around;
#[cfg(test)]
mod distribution;
mod endpoints;
pub(crate) mod ewma;
mod hashing;
mod least_request;
mod maglev;
mod peak_ewma;
mod pick;
mod pick_first;
mod plan;
mod random;
mod ring_hash;
mod round_robin;
mod table;
mod weighted;
mod weighted_round_robin;

use std::time::Duration;

use crate::subchannel::ConnectivityState;
pub use crate::{endpoint::Endpoint, status::Status};
pub(crate) use endpoints::Census;
pub use endpoints::{Candidate, Endpoints};
pub(crate) use pick::Why;
pub use pick::{CallInfo, Pick, Picker};
pub use plan::Plan;
pub(crate) use plan::{Barrier, Queueing};
pub(crate) use table::{Policies, PolicyConfig};

/// What a policy wants to know of the loads that servers report (ORCA, gRFC A51), and for how long a report counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadReports {
    /// How often servers are asked to report out of band; with each response where it is `None`.
    pub out_of_band: Option<Duration>,
    /// Reports must have come for so long before they count.
    pub blackout: Duration,
    /// The last report counts for so long.
    pub expiration: Duration,
    /// How much an error a call adds to the utilization, 0 or more.
    pub error_penalty: f64,
}

/// Chooses which endpoints to connect, and how to choose among them.
pub trait Policy: Send {
    /// Looks at the endpoints; called whenever one comes, goes or changes its state. What must outlive a picker, such as
    /// whose turn it is, is kept in `self`. A panic ends the channel: calls fail with `INTERNAL`.
    fn plan(&mut self, endpoints: &Endpoints<'_>) -> Plan;

    /// What the policy wants to know of the loads that servers report; by default nothing, and no server is asked.
    fn load_reports(&self) -> Option<LoadReports> {
        None
    }
}

#[cfg(test)]
pub(crate) mod tests;
