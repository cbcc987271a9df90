//! The binary as a process, on a directory and on a real etcd.

mod certifying;
mod command_line;
mod commanding;
mod examining;
mod exiting;
mod explaining;
mod first_try;
mod moving;
mod place;
mod reading;
mod registering;
mod resolving;
mod showing;
mod stable;
mod telling;
mod wanting;
mod watching;
