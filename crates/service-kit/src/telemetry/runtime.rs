//! What the runtime does, as far as tokio promises to tell it: whether its workers are busy, and whether tasks pile up.

use opentelemetry::{KeyValue, metrics::Meter};
use tokio::runtime::RuntimeMetrics;

/// Reads one figure of the runtime.
type Figure = fn(&RuntimeMetrics) -> usize;

const GAUGES: [(&str, &str, &str, Figure); 3] = [
    (
        "tokio.workers",
        "{thread}",
        "Threads that run tasks",
        RuntimeMetrics::num_workers,
    ),
    (
        "tokio.alive_tasks",
        "{task}",
        "Tasks that have not ended",
        RuntimeMetrics::num_alive_tasks,
    ),
    (
        "tokio.global_queue_depth",
        "{task}",
        "Tasks that no worker has taken yet, those in the workers' own queues not counted",
        RuntimeMetrics::global_queue_depth,
    ),
];

/// Has the meter read the runtime.
pub(super) fn observe(meter: &Meter, runtime: &RuntimeMetrics) {
    for (name, unit, description, figure) in GAUGES {
        let runtime = runtime.clone();
        let gauge = meter.u64_observable_gauge(name).with_unit(unit);
        let gauge = gauge.with_description(description);
        gauge
            .with_callback(move |gauge| gauge.observe(figure(&runtime) as u64, &[]))
            .build();
    }
    observe_workers(meter, runtime);
}

fn observe_workers(meter: &Meter, runtime: &RuntimeMetrics) {
    let label = |worker: usize| [KeyValue::new("worker", worker.to_string())];
    let labels: Vec<_> = (0..runtime.num_workers()).map(label).collect();
    let (metrics, workers) = (runtime.clone(), labels.clone());
    meter
        .f64_observable_counter("tokio.worker.busy_duration")
        .with_unit("s")
        .with_description(
            "Time in which a worker ran tasks; one that is always busy may be blocked",
        )
        .with_callback(move |counter| {
            for (worker, label) in workers.iter().enumerate() {
                let busy = metrics.worker_total_busy_duration(worker);
                counter.observe(busy.as_secs_f64(), label);
            }
        })
        .build();
    let (metrics, workers) = (runtime.clone(), labels);
    meter
        .u64_observable_counter("tokio.worker.parks")
        .with_unit("{park}")
        .with_description("How often a worker had nothing to do and went to sleep")
        .with_callback(move |counter| {
            for (worker, label) in workers.iter().enumerate() {
                counter.observe(metrics.worker_park_count(worker), label);
            }
        })
        .build();
}
