//! From checks that succeed and fail to an instance that is healthy or not.

use std::{future::pending, time::Duration};

use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{checks::Checks, standing::Standing};

/// What has become of the health.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Healthy,
    /// And why.
    Unhealthy(String),
    /// So many checks have failed as make an instance unhealthy, and none has succeeded: why the last one has.
    NotYet(String),
}

/// Checks again and again, and tells when the health turns.
#[derive(Debug)]
pub(super) struct Monitor {
    /// `None` where whatever is registered is healthy.
    checks: Option<Checks>,
    ticks: Interval,
    health: Health,
    /// How many checks have still to fail, if none succeeds, for it to be told.
    untold: u32,
    /// Why the newest check failed, if it did.
    failure: Option<String>,
    standing: Standing,
}

impl Monitor {
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) fn new(
        checks: Option<Checks>,
        every: Duration,
        healthy_after: u32,
        unhealthy_after: u32,
        standing: Standing,
    ) -> Self {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let health = Health {
            is_healthy: false,
            otherwise: 0,
            healthy_after,
            unhealthy_after,
        };
        Self {
            checks,
            ticks,
            health,
            untold: unhealthy_after,
            failure: None,
            standing,
        }
    }

    /// Why the newest check failed, if it did.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Waits until the health turns; at first it is not healthy, and that it stays so is told once. Cancellation safe: a check
    /// that is cut off is made again.
    pub(super) async fn turned(&mut self) -> Turn {
        let Some(checks) = &self.checks else {
            if self.health.is_healthy {
                return pending().await;
            }
            self.health.is_healthy = true;
            return Turn::Healthy;
        };
        loop {
            self.ticks.tick().await;
            let failure = checks.make().await.err();
            self.failure.clone_from(&failure);
            if let Some(failure) = &failure {
                self.standing.fail(failure);
            }
            if self.health.turns(failure.is_none()) {
                self.untold = 0;
                return failure.map_or(Turn::Healthy, Turn::Unhealthy);
            }
            if let Some(failure) = failure
                && self.untold > 0
            {
                self.untold -= 1;
                if self.untold == 0 {
                    return Turn::NotYet(failure);
                }
            }
        }
    }
}

/// Turns when enough checks in a row say otherwise.
#[derive(Debug)]
struct Health {
    is_healthy: bool,
    /// How many checks in a row have said otherwise.
    otherwise: u32,
    healthy_after: u32,
    unhealthy_after: u32,
}

impl Health {
    /// Whether it is otherwise from this check on.
    fn turns(&mut self, success: bool) -> bool {
        if success == self.is_healthy {
            self.otherwise = 0;
            return false;
        }
        self.otherwise += 1;
        let enough = if success {
            self.healthy_after
        } else {
            self.unhealthy_after
        };
        let turns = self.otherwise >= enough;
        if turns {
            (self.is_healthy, self.otherwise) = (success, 0);
        }
        turns
    }
}

#[cfg(test)]
mod tests {
    use super::Health;

    #[test]
    fn it_takes_so_many_in_a_row() {
        let mut health = Health {
            is_healthy: false,
            otherwise: 0,
            healthy_after: 2,
            unhealthy_after: 3,
        };
        let checks = "+-++--+---+-++";
        let turns: String = checks
            .chars()
            .map(|check| if health.turns(check == '+') { '!' } else { '.' })
            .collect();
        assert_eq!(turns, "...!.....!...!");
    }
}
