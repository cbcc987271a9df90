//! Ready endpoints with their weights, to sample from.

use std::sync::Arc;

use super::{
    Endpoint,
    alias::{AliasTable, place},
};

/// Endpoints, at least one, of which one is drawn in proportion to its weight.
pub(super) struct Weighted {
    endpoints: Arc<[Arc<Endpoint>]>,
    /// Absent where all weigh the same.
    uneven: Option<AliasTable>,
}

impl Weighted {
    pub(super) fn new(endpoints: Arc<[Arc<Endpoint>]>) -> Self {
        let weights: Vec<u32> = endpoints.iter().map(|e| e.weight()).collect();
        let is_even = weights.iter().all(|weight| *weight == weights[0]);
        let uneven = (!is_even).then(|| AliasTable::new(&weights));
        Self { endpoints, uneven }
    }

    pub(super) fn endpoint(&self, place: usize) -> &Arc<Endpoint> {
        &self.endpoints[place]
    }

    /// A place, in proportion to its weight.
    pub(super) fn draw(&self) -> usize {
        let random = fastrand::u64(..);
        match &self.uneven {
            Some(table) => table.choose(random),
            None => place(random, self.endpoints.len()),
        }
    }

    /// A place, each as probable as any other.
    pub(super) fn draw_evenly(&self) -> usize {
        place(fastrand::u64(..), self.endpoints.len())
    }

    /// `other`, or its neighbour when it is `one`: two draws compare nothing when they draw the same.
    pub(super) fn apart(&self, one: usize, other: usize) -> usize {
        match other {
            _ if other != one => other,
            _ if other + 1 == self.endpoints.len() => 0,
            _ => other + 1,
        }
    }
}
