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

/// `APART` is how many bytes there are between what is counted of one endpoint and of the next.
struct Endpoint<const APART: usize> {
    in_flight: AtomicUsize,
    _rest: [u8; APART],
}

impl<const APART: usize> Endpoint<APART> {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            in_flight: AtomicUsize::new(0),
            _rest: [0; APART],
        })
    }
}

struct InFlight<const APART: usize>(Arc<Endpoint<APART>>);

impl<const APART: usize> InFlight<APART> {
    fn count(endpoint: Arc<Endpoint<APART>>) -> Self {
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(endpoint)
    }
}

impl<const APART: usize> Drop for InFlight<APART> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Sequence<const APART: usize> {
    published: ArcSwap<Vec<Arc<Endpoint<APART>>>>,
    next: AtomicUsize,
}

impl<const APART: usize> Sequence<APART> {
    fn new(size: u32) -> Self {
        Self {
            published: ArcSwap::from_pointee((0..size).map(|_| Endpoint::new()).collect()),
            next: AtomicUsize::new(0),
        }
    }

    fn pick(&self) -> InFlight<APART> {
        let endpoints = self.published.load();
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        InFlight::count(Arc::clone(&endpoints[turn % endpoints.len()]))
    }
}

pub(crate) fn measure(group: &mut BenchmarkGroup<'_, WallTime>, size: u32) {
    group.bench_function(BenchmarkId::new("bare sequence", size), |bench| {
        let near = Sequence::<0>::new(size);
        bench.iter(|| drop(black_box(near.pick())));
    });
    // What a pick would cost if it read the clock that its call has read.
    group.bench_function(
        BenchmarkId::new("bare sequence and a clock", size),
        |bench| {
            let near = Sequence::<0>::new(size);
            bench.iter(|| drop(black_box((near.pick(), Instant::now()))));
        },
    );
    // An endpoint with its connection is more than a counter, and thousands of them are in no cache.
    group.bench_function(
        BenchmarkId::new("bare sequence, endpoints 4 KiB apart", size),
        |bench| {
            let apart = Sequence::<4_096>::new(size);
            bench.iter(|| drop(black_box(apart.pick())));
        },
    );
}
