//! Calls that end before they are done: cancelled, or by their deadline.
//!
//! A Rust caller cancels a call by dropping it, and so nobody is left to whom a status CANCELLED could be told. What is
//! asserted is what is left of the call: nothing, as the channel counts it, and a connection that serves on. That the
//! server learns of it is asserted where there is a server of ours, in `tests/`.

use std::{pin::pin, time::Duration};

use anyhow::{Result, bail, ensure};
use balance::{Channel, EndpointExplanation, Explanation};
use futures_util::{StreamExt as _, future::ready, stream};
use tokio::time::{MissedTickBehavior, interval};
use tonic::{Code, Request};

use super::{Client, streaming, unary};
use crate::testing::{Payload, StreamingOutputCallRequest};

pub(super) async fn after_begin(channel: &Channel, client: Client) -> Result<()> {
    {
        let mut beginner = client.clone();
        let mut call = pin!(beginner.streaming_input_call(stream::pending()));
        tokio::select! {
            biased;
            ended = &mut call => bail!("it ended before it was cancelled: {ended:?}"),
            begun = metadata_sent(channel, &client) => begun?,
        }
    }
    nothing_left(channel).await;
    unary::empty(client).await
}

pub(super) async fn after_first_response(channel: &Channel, mut client: Client) -> Result<()> {
    let request = stream::once(ready(streaming::request(27_182, 31_415)));
    let requests = request.chain(stream::pending());
    let mut responses = client.full_duplex_call(requests).await?.into_inner();
    streaming::next(&mut responses, 31_415).await?;
    drop(responses);
    nothing_left(channel).await;
    unary::empty(client).await
}

pub(super) async fn timeout(mut client: Client) -> Result<()> {
    let request = StreamingOutputCallRequest {
        payload: Some(Payload::zeros(27_182)),
        ..StreamingOutputCallRequest::default()
    };
    let mut call = Request::new(stream::once(ready(request)).chain(stream::pending()));
    call.set_timeout(Duration::from_millis(1));
    let status = match client.full_duplex_call(call).await {
        Err(status) => status,
        Ok(responses) => match responses.into_inner().message().await {
            Err(status) => status,
            Ok(message) => bail!("the sleeping server said {message:?}"),
        },
    };
    ensure!(
        status.code() == Code::DeadlineExceeded,
        "{status}; it was to be DEADLINE_EXCEEDED"
    );
    Ok(())
}

/// Waits until the call that was begun has reached its server: another one, later on the same connection, was answered.
async fn metadata_sent(channel: &Channel, client: &Client) -> Result<()> {
    let begun = until(channel, |explanation| {
        let mut endpoints = explanation.endpoints.into_iter();
        endpoints.find(|endpoint| endpoint.in_flight > 0)
    })
    .await;
    let later =
        |endpoint: &EndpointExplanation| endpoint.id == begun.id && endpoint.picks > begun.picks;
    while !channel.explain().endpoints.iter().any(later) {
        unary::empty(client.clone()).await?;
    }
    Ok(())
}

/// Waits until the channel has no call in flight.
async fn nothing_left(channel: &Channel) {
    until(channel, |explanation| {
        let mut endpoints = explanation.endpoints.iter();
        let left = explanation.calls_in_flight > 0 || endpoints.any(|e| e.in_flight > 0);
        (!left).then_some(())
    })
    .await;
}

/// Asks the channel again and again until it answers; the case's bound is the bound.
async fn until<T>(channel: &Channel, answer: impl Fn(Explanation) -> Option<T>) -> T {
    let mut again = interval(Duration::from_millis(1));
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if let Some(answer) = answer(channel.explain()) {
            return answer;
        }
        again.tick().await;
    }
}
