//! The least that a pick can be: load what is published, take the next, share it, count the call in and out.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use criterion::{BenchmarkGroup, BenchmarkId, measurement::WallTime};
use tokio::time::Instant;

#[derive(Default)]
struct Endpoint {
    in_flight: AtomicUsize,
}

struct InFlight(Arc<Endpoint>);

impl InFlight {
    fn count(endpoint: Arc<Endpoint>) -> Self {
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(endpoint)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Sequence {
    published: ArcSwap<Vec<Arc<Endpoint>>>,
    next: AtomicUsize,
}

impl Sequence {
    fn pick(&self) -> InFlight {
        let endpoints = self.published.load();
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        InFlight::count(Arc::clone(&endpoints[turn % endpoints.len()]))
    }
}

pub(crate) fn measure(group: &mut BenchmarkGroup<'_, WallTime>, size: u32) {
    let sequence = Sequence {
        published: ArcSwap::from_pointee((0..size).map(|_| Arc::default()).collect()),
        next: AtomicUsize::new(0),
    };
    group.bench_function(BenchmarkId::new("bare sequence", size), |bench| {
        bench.iter(|| drop(black_box(sequence.pick())));
    });
    // Our endpoints' latency is measured from here; a pick that does that is not to be held to one that does not.
    group.bench_function(
        BenchmarkId::new("bare sequence and a clock", size),
        |bench| {
            bench.iter(|| drop(black_box((sequence.pick(), Instant::now()))));
        },
    );
}
