//! A list given beforehand, read-only.
