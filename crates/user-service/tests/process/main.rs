//! user-service as a process: what it answers, what it keeps, and what it does while its storage is down.

mod answers;
mod deadlines;
mod ending;
mod greeters_killed;
mod identities;
mod kept;
mod metrics;
mod registered;
mod running;
mod secrets;
mod storage_busy;
mod storage_down;
mod storage_down_for_all;
mod telling;
mod traces;
