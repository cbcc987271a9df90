//! `greeter-server` as its operators and callers see it: a process.

mod burdens;
mod ending;
mod limits;
mod logging;
mod mistakes;
mod running;
mod secured;
mod starting;
mod systemd;
