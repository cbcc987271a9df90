//! Payloads: zeros, of the size that was asked for.

use anyhow::{Context as _, Result, ensure};
use tonic::Status;

use crate::testing::Payload;

/// What a server sends at most in a message: what gRPC's clients take without being told otherwise.
const LARGEST: usize = 4 << 20;

impl Payload {
    pub(crate) fn zeros(size: usize) -> Self {
        Self {
            body: vec![0; size],
        }
    }

    /// As [`zeros`](Self::zeros), for a caller that may ask for anything.
    pub(crate) fn asked_for(size: i32) -> Result<Self, Status> {
        match usize::try_from(size) {
            Ok(size) if size <= LARGEST => Ok(Self::zeros(size)),
            _ => Err(Status::invalid_argument(format!(
                "a payload of {size} bytes was asked for; 0 to {LARGEST} would do"
            ))),
        }
    }
}

/// Says what is wrong with a payload that was to be of so many zeros.
pub(crate) fn ensure_zeros(payload: Option<&Payload>, size: usize) -> Result<()> {
    let body = &payload.context("a response without a payload")?.body;
    ensure!(
        body.len() == size,
        "a payload of {} bytes; {size} were asked for",
        body.len()
    );
    let other = body.iter().find(|byte| **byte != 0);
    ensure!(other.is_none(), "a payload with {other:?} among its zeros");
    Ok(())
}
