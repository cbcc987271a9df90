//! One process: for tests and embedding.
