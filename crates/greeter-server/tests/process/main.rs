//! `greeter-server` as its operators and callers see it: a process.

mod burdens;
mod ending;
mod mistakes;
mod running;
mod secured;
mod starting;
