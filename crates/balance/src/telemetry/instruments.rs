//! The instruments of calls and ejections, as OpenTelemetry's RPC conventions and gRFC A66, A91 and A96 have them.

use opentelemetry::metrics::{Counter, Histogram, Meter};

/// Seconds a call: those that OpenTelemetry's RPC conventions advise, from 5 ms on, and before them what a call in memory takes.
const CALLS: [f64; 18] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0,
    2.5, 5.0, 7.5, 10.0,
];
/// Seconds an attempt, or waited (A66).
const LATENCIES: [f64; 41] = [
    0.0, 0.000_01, 0.000_05, 0.000_1, 0.000_3, 0.000_6, 0.000_8, 0.001, 0.002, 0.003, 0.004, 0.005,
    0.006, 0.008, 0.01, 0.013, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16,
    0.2, 0.25, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0,
];
/// Bytes (A66).
const SIZES: [f64; 14] = [
    0.0,
    1_024.0,
    2_048.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
    4_294_967_296.0,
];
/// Further attempts of a call (A96).
const ATTEMPTS: [f64; 5] = [1.0, 2.0, 3.0, 4.0, 5.0];
const TRANSPARENT_ATTEMPTS: [f64; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 10.0];

#[derive(Debug)]
pub(super) struct Instruments {
    pub(super) started: Counter<u64>,
    pub(super) attempt: Histogram<f64>,
    pub(super) sent: Histogram<u64>,
    pub(super) received: Histogram<u64>,
    pub(super) call: Histogram<f64>,
    pub(super) retries: Histogram<u64>,
    pub(super) transparent_retries: Histogram<u64>,
    pub(super) hedges: Histogram<u64>,
    pub(super) retry_delay: Histogram<f64>,
    pub(super) ejected: Counter<u64>,
    pub(super) spared: Counter<u64>,
}

impl Instruments {
    pub(super) fn new(meter: &Meter) -> Self {
        let counter = |name, unit, description| {
            let counter = meter.u64_counter(name).with_unit(unit);
            counter.with_description(description).build()
        };
        let seconds = |name, description, boundaries: &[f64]| {
            let histogram = meter.f64_histogram(name).with_unit("s");
            let histogram = histogram.with_description(description);
            histogram.with_boundaries(boundaries.to_vec()).build()
        };
        let histogram = |name, unit, description, boundaries: &[f64]| {
            let histogram = meter.u64_histogram(name).with_unit(unit);
            let histogram = histogram.with_description(description);
            histogram.with_boundaries(boundaries.to_vec()).build()
        };
        Self {
            started: counter(
                "grpc.client.attempt.started",
                "{attempt}",
                "Attempts that were begun, also those that have not ended",
            ),
            attempt: seconds(
                "grpc.client.attempt.duration",
                "How long attempts took, from their endpoint's choice to their end",
                &LATENCIES,
            ),
            sent: histogram(
                "grpc.client.attempt.sent_total_compressed_message_size",
                "By",
                "What an attempt sent in all its messages, compressed, less the framing",
                &SIZES,
            ),
            received: histogram(
                "grpc.client.attempt.rcvd_total_compressed_message_size",
                "By",
                "What an attempt received in all its messages, compressed, less the framing",
                &SIZES,
            ),
            call: seconds(
                "rpc.client.call.duration",
                "How long calls took as their callers saw it, with all attempts and waiting",
                &CALLS,
            ),
            retries: histogram(
                "grpc.client.call.retries",
                "{retry}",
                "Retries of a call that had any",
                &ATTEMPTS,
            ),
            transparent_retries: histogram(
                "grpc.client.call.transparent_retries",
                "{transparent_retry}",
                "Transparent retries of a call that had any",
                &TRANSPARENT_ATTEMPTS,
            ),
            hedges: histogram(
                "grpc.client.call.hedges",
                "{hedge}",
                "Hedges of a call that had any",
                &ATTEMPTS,
            ),
            retry_delay: seconds(
                "grpc.client.call.retry_delay",
                "For how long a call that was tried again had no attempt under way",
                &LATENCIES,
            ),
            ejected: counter(
                "grpc.lb.outlier_detection.ejections_enforced",
                "{ejection}",
                "Outliers that were ejected",
            ),
            spared: counter(
                "grpc.lb.outlier_detection.ejections_unenforced",
                "{ejection}",
                "Outliers that were not ejected",
            ),
        }
    }
}
