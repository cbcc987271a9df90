//! What is checked of any input; `tests/dialects/corpus.rs` of the registry checks the same of the corpus.

mod check;

pub use check::check;
