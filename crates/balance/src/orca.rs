//! What servers report of their load (ORCA, gRFC A51), and the weight that it makes (gRFC A58).

mod out_of_band;
mod report;
mod weight;

pub(crate) use out_of_band::OutOfBand;
pub(crate) use report::LoadReport;
#[cfg(test)]
pub(crate) use weight::weight;
pub(crate) use weight::{NoWeight, ReportedWeight};
