//! Each dialect's exact bytes, what comes back of them, and what others write.

mod corpus;
mod foreign;
mod golden;
mod round_trip;
mod support;
