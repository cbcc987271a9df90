//! What does one pick cost? Every policy of `balance::Channel`, what pingora-load-balancing has of the same kind, and the
//! least that any channel would have to do. `bench pick` runs this, with a server for the endpoints to be connected to.

mod bare;
mod ours;
mod pingora;

use std::{env, net::Ipv4Addr, time::Duration};

use criterion::Criterion;
use tokio::runtime;

type Error = Box<dyn std::error::Error>;

/// How many endpoints there are to pick from.
const SIZES: [u32; 3] = [10, 1_000, 10_000];

fn main() -> Result<(), Error> {
    let port = env::var("PICKS_PORT")
        .ok()
        .and_then(|port| port.parse().ok());
    let port = port.ok_or(
        "PICKS_PORT names no port of a server; `./justw bench pick` starts one and runs this",
    )?;
    // What the channels do beside being picked from is done on another thread.
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut criterion = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(50)
        .configure_from_args();
    let mut group = criterion.benchmark_group("pick");
    for size in SIZES {
        bare::measure(&mut group, size);
        pingora::measure(&mut group, size, &runtime);
        ours::measure(&mut group, size, port, &runtime);
    }
    group.finish();
    Ok(())
}

/// The address of an endpoint: 127.1.0.0, 127.1.0.1 and so on.
fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 0).to_bits() + number)
}

/// The weight of an endpoint: not all are alike.
fn weight(number: u32) -> u32 {
    number % 10 + 1
}
