//! pingora-load-balancing's own way from a balancer to a backend.

use std::{collections::BTreeSet, hint::black_box};

use criterion::{BenchmarkGroup, BenchmarkId, measurement::WallTime};
use pingora_load_balancing::{
    Backend, Backends, LoadBalancer, discovery,
    selection::{BackendIter, BackendSelection, Consistent, Random, RoundRobin},
};
use tokio::runtime::Runtime;

use crate::{Error, address, weight};

/// How many backends it looks at for one that is healthy; all are.
const MAX_ITERATIONS: usize = 256;

pub(crate) fn measure(group: &mut BenchmarkGroup<'_, WallTime>, size: u32, runtime: &Runtime) {
    selection::<RoundRobin>(group, "pingora RoundRobin", size, runtime);
    selection::<Random>(group, "pingora Random", size, runtime);
    selection::<Consistent>(group, "pingora Consistent (ketama)", size, runtime);
}

fn selection<S>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, size: u32, runtime: &Runtime)
where
    S: BackendSelection + Send + Sync + 'static,
    S::Iter: BackendIter,
{
    // Made only when it is measured: a filter may leave it out.
    let mut made = None;
    let mut number = 0_u64;
    group.bench_function(BenchmarkId::new(name, size), |bench| {
        let balancer =
            made.get_or_insert_with(|| balancer::<S>(size, runtime).expect("a balancer"));
        bench.iter(|| {
            number = number.wrapping_add(1);
            let picked = balancer.select(&number.to_le_bytes(), MAX_ITERATIONS);
            drop(black_box(picked.expect("a backend")));
        });
    });
}

fn balancer<S>(size: u32, runtime: &Runtime) -> Result<LoadBalancer<S>, Error>
where
    S: BackendSelection + Send + Sync + 'static,
    S::Iter: BackendIter,
{
    let backends = (0..size).map(|number| {
        let address = format!("{}:50051", address(number));
        Backend::new_with_weight(&address, weight(number) as usize)
    });
    let backends = backends.collect::<Result<BTreeSet<_>, _>>()?;
    let balancer =
        LoadBalancer::<S>::from_backends(Backends::new(discovery::Static::new(backends)));
    runtime.block_on(balancer.update())?;
    Ok(balancer)
}
