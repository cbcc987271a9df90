//! For how long a channel says that an endpoint has been in its state.

use balance::Channel;
use tokio::time::Instant;

use crate::{call, server::Server, until};

/// By so many milliseconds a state is older than the next one can be when that begins.
const OLDER: u128 = 50;

/// Waits until the only endpoint is in that state, as it is since some time after `after`, and until it has grown older in it.
async fn grows_older_in(state: &str, after: Instant, channel: &Channel) {
    let age = || {
        let endpoints = channel.explain().endpoints;
        let endpoint = endpoints.first().filter(|endpoint| endpoint.state == state);
        endpoint.map(|endpoint| endpoint.for_ms)
    };
    until(&format!("it is {state}"), || age().is_some()).await;
    let (young, seen) = (age().expect("it stays so"), Instant::now());
    let most = after.elapsed().as_millis();
    assert!(young <= most, "{state} for {young} ms, of {most}");
    let is_older = || age().is_some_and(|age| age >= young + OLDER);
    until("it has grown older", is_older).await;
    let least = young + seen.elapsed().as_millis();
    let old = age().expect("it stays so");
    let most = after.elapsed().as_millis();
    assert!(
        (least..=most).contains(&old),
        "{state} for {old} ms, of {least} to {most}"
    );
}

#[tokio::test]
async fn the_time_in_a_state_goes_on_and_begins_anew_with_the_next() {
    let server = Server::start().await;
    let target = format!("static:///{}", server.address);
    let built = Instant::now();
    let channel = Channel::builder(target).policy("ring_hash").build();
    let channel = channel.expect("a channel");
    grows_older_in("IDLE", built, &channel).await;
    let called = Instant::now();
    call(&channel, "a").await.expect("an answer");
    grows_older_in("READY", called, &channel).await;
    let stopped = Instant::now();
    server.shut_down();
    grows_older_in("IDLE", stopped, &channel).await;
}
