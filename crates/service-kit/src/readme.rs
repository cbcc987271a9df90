//! The README's examples, compiled as doc tests.
#![doc = include_str!("../../../README.md")]
