//! What a collector is given by the binaries as processes, and that none of their calls waits for it.

mod metrics;
mod scene;
mod traces;
