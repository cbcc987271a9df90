//! Outlier detection (gRFC A50): endpoints that fail more than the others get no calls for a while.
//!
//! ```text
//! call ends ─ Verdict ─▶ Tally of its endpoint ─ a row of failures ─▶ Detector::consecutive ─┐
//!                            │                                                               ├─▶ Outlier
//!                            └───── each interval ─────────────────▶ Detector::sweep ────────┘
//! ```
//!
//! The detector is pure: it is told the time, the counts and the random numbers, and answers whom to eject and whom to
//! return. What it knows of an endpoint is a number that is never used again for another one. What counts as a failure,
//! and how many may be ejected, is decided in ADR 6.

mod algorithms;
mod detector;
mod finding;
mod settings;
mod share;
mod tally;
mod verdict;

pub(crate) use algorithms::Counts;
pub(crate) use detector::Detector;
#[cfg(test)]
use detector::{Configured, Sweep};
#[cfg(test)]
pub(crate) use finding::Spared;
pub(crate) use finding::{Outlier, Why};
pub(crate) use settings::{ConsecutiveFailures, FailurePercentage, Settings, SuccessRate};
pub(crate) use tally::Tally;
pub(crate) use verdict::{Ended, Verdict};
