//! One message each way.

use anyhow::Result;

use super::Client;
use crate::{
    payload::ensure_zeros,
    testing::{Empty, Payload, SimpleRequest},
};

const REQUEST: usize = 271_828;
const RESPONSE: i32 = 314_159;

pub(super) async fn empty(mut client: Client) -> Result<()> {
    client.empty_call(Empty {}).await?;
    Ok(())
}

pub(super) async fn large(mut client: Client) -> Result<()> {
    let response = client.unary_call(large_request()).await?.into_inner();
    ensure_large(response.payload.as_ref())
}

/// What `large_unary`, and all cases like it, ask for.
pub(super) fn large_request() -> SimpleRequest {
    SimpleRequest {
        response_size: RESPONSE,
        payload: Some(Payload::zeros(REQUEST)),
        ..SimpleRequest::default()
    }
}

/// That a response's payload is what [`large_request`] asks for.
pub(super) fn ensure_large(payload: Option<&Payload>) -> Result<()> {
    ensure_zeros(payload, usize::try_from(RESPONSE)?)
}
