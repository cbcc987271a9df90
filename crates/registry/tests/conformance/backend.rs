//! The backends that the suite runs over.

pub(crate) mod memory;
