//! What every backend does, each behaviour one function.

pub(crate) mod claims;
pub(crate) mod documents;
pub(crate) mod holding;
pub(crate) mod intents;
pub(crate) mod reading;
pub(crate) mod spoiling;
pub(crate) mod watching;
