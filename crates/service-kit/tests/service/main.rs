//! A service from its start to its end, as its callers, the registry and its operators see it.

mod deadlines;
mod lifecycle;
mod running;
mod server;
mod uploads;
