//! An outlier, by what it was found, and whether it was spared.

use std::fmt;

/// By what an outlier was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Why {
    /// `percent` of its calls succeeded, and that is less than `threshold`, which all endpoints together set.
    SuccessRate { percent: f64, threshold: f64 },
    /// `percent` of its calls failed.
    FailurePercentage { percent: f64 },
    /// That many calls failed one after the other.
    ConsecutiveFailures { failures: u32 },
}

impl Why {
    /// The algorithm's name as gRFC A91 has it in metrics.
    pub(crate) fn method(&self) -> &'static str {
        match self {
            Self::SuccessRate { .. } => "success_rate",
            Self::FailurePercentage { .. } => "failure_percentage",
            Self::ConsecutiveFailures { .. } => "consecutive_failures",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SuccessRate { percent, threshold } => write!(
                f,
                "{percent:.1} % of its calls succeeded, and by the others' rates {threshold:.1} % is the least"
            ),
            Self::FailurePercentage { percent } => write!(f, "{percent:.1} % of its calls failed"),
            Self::ConsecutiveFailures { failures } => write!(f, "{failures} calls failed in a row"),
        }
    }
}

/// Why an outlier is not ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spared {
    /// By the set chance.
    Enforcement,
    /// As many are ejected as may be.
    Share,
}

impl Spared {
    /// The reason's name as gRFC A91 has it in metrics.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Enforcement => "enforcement_percentage",
            Self::Share => "max_ejection_overflow",
        }
    }
}

/// An endpoint that was found to be an outlier.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Outlier {
    pub(crate) serial: u64,
    pub(crate) why: Why,
    /// `None`: it is ejected from now on.
    pub(crate) spared: Option<Spared>,
}
