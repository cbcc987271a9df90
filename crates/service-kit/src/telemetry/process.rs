//! What the process takes of its machine, by the names that Prometheus' own client libraries share.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use nix::sys::resource::{Resource, getrlimit};
use opentelemetry::metrics::Meter;
use procfs::{ProcResult, process::Process};

/// Reads one figure of the process.
type Figure = fn(&Process) -> ProcResult<u64>;

const GAUGES: [(&str, &str, &str, Figure); 4] = [
    (
        "process.resident_memory",
        "By",
        "Memory of the process that is in RAM",
        |process| Ok(process.stat()?.rss * procfs::page_size()),
    ),
    (
        "process.virtual_memory",
        "By",
        "Memory that the process has asked for",
        |process| Ok(process.stat()?.vsize),
    ),
    (
        "process.open_fds",
        "{file_descriptor}",
        "File descriptors that the process has open: a connection is one, and a registration in a directory",
        |process| Ok(process.fd_count()? as u64),
    ),
    (
        "process.threads",
        "{thread}",
        "Threads of the process",
        |process| Ok(process.stat()?.num_threads.unsigned_abs()),
    ),
];

/// Has the meter read this process.
pub(super) fn observe(meter: &Meter) {
    note_start(meter);
    observe_limit(meter);
    match Process::myself() {
        Ok(process) => observe_figures(meter, &Arc::new(process)),
        Err(error) => {
            tracing::warn!(%error, "there will be no metrics of the process: /proc cannot be read");
        }
    }
}

/// A figure that cannot be read is left out of what is read then.
fn observe_figures(meter: &Meter, process: &Arc<Process>) {
    for (name, unit, description, figure) in GAUGES {
        let process = Arc::clone(process);
        let gauge = meter.u64_observable_gauge(name).with_unit(unit);
        let gauge = gauge.with_description(description);
        gauge
            .with_callback(move |gauge| {
                if let Ok(figure) = figure(&process) {
                    gauge.observe(figure, &[]);
                }
            })
            .build();
    }
    let process = Arc::clone(process);
    meter
        .f64_observable_counter("process.cpu")
        .with_unit("s")
        .with_description("Time of processors that the process has used, in user and system mode")
        .with_callback(move |counter| {
            if let Ok(stat) = process.stat() {
                let ticks = (stat.utime + stat.stime) as f64;
                counter.observe(ticks / procfs::ticks_per_second() as f64, &[]);
            }
        })
        .build();
}

fn observe_limit(meter: &Meter) {
    meter
        .u64_observable_gauge("process.max_fds")
        .with_unit("{file_descriptor}")
        .with_description("File descriptors that the process may have open")
        .with_callback(|gauge| {
            if let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
                gauge.observe(limit, &[]);
            }
        })
        .build();
}

fn note_start(meter: &Meter) {
    let gauge = meter.f64_gauge("process.start_time").with_unit("s");
    let gauge = gauge.with_description("When the process started, in seconds since 1970");
    // A clock that stands before 1970 has no start time to tell.
    if let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) {
        gauge.build().record(now.as_secs_f64(), &[]);
    }
}
