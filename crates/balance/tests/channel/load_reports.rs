//! Calls in proportion to what servers report of their load (gRFC A51, A58).

use std::{ops::RangeInclusive, time::Duration};

use balance::Channel;
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use http::HeaderMap;
use tokio::time::{sleep, timeout};

use crate::{
    BOUND, call,
    peer::{Peer, framed, greet_with, handshake, open},
};

/// `xds.data.orca.v3.OrcaLoadReport`, by hand: `cpu_utilization` (1) is a half, and `rps_fractional` (6) as given.
fn report(calls_per_second: f64) -> Vec<u8> {
    let mut report = vec![1 << 3 | 1];
    report.extend(0.5_f64.to_le_bytes());
    report.push(6 << 3 | 1);
    report.extend(calls_per_second.to_le_bytes());
    report
}

/// A greeter that reports its load: with each answer, or apart from them where it is asked to.
pub(crate) async fn reporting(calls_per_second: f64, out_of_band: bool) -> Peer {
    Peer::start(move |_, socket, address| async move {
        let report = report(calls_per_second);
        let mut reports = Vec::new();
        let mut connection = handshake(socket).await;
        while let Some(Ok((request, respond))) = connection.accept().await {
            let mut trailers = HeaderMap::new();
            match request.uri().path() {
                "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics" => {
                    assert!(out_of_band, "nobody wants that");
                    let mut stream = open(respond);
                    stream.send_data(framed(&report), false).expect("open");
                    reports.push(stream);
                    continue;
                }
                _ if !out_of_band => {
                    let text = BASE64_STANDARD_NO_PAD.encode(&report);
                    let text = text.parse().expect("a value");
                    trailers.insert("endpoint-load-metrics-bin", text);
                }
                _ => {}
            }
            greet_with(trailers, respond, "hello", &address);
        }
    })
    .await
}

/// Calls by weights, with those settings.
pub(crate) fn calling(settings: &str) -> String {
    format!(r#"{{"loadBalancingConfig": [{{"weighted_round_robin": {settings}}}]}}"#)
}

fn channel(peers: [&Peer; 2], out_of_band: bool) -> Channel {
    let [one, other] = peers.map(|peer| peer.address.as_str());
    let settings = format!(
        r#"{{"enableOobLoadReport": {out_of_band}, "blackoutPeriod": "0s", "weightUpdatePeriod": "0.1s"}}"#
    );
    Channel::builder(format!("static:///{one},{other}"))
        .service_config(calling(&settings))
        .build()
        .expect("a channel")
}

/// Calls until so many of forty calls go to that peer.
async fn until_share(channel: &Channel, peer: &Peer, share: RangeInclusive<usize>) {
    let mut last = 0;
    let waited = timeout(BOUND, async {
        while !share.contains(&last) {
            sleep(Duration::from_millis(20)).await;
            last = 0;
            for _ in 0..40 {
                let by = call(channel, "hello").await.expect("an answer");
                last += usize::from(by == peer.address.as_str());
            }
        }
    });
    let ended = waited.await;
    assert!(ended.is_ok(), "{last} of 40 calls, not {share:?}");
}

#[tokio::test]
async fn reports_with_responses_weigh_endpoints() {
    let (strong, weak) = (reporting(300.0, false).await, reporting(100.0, false).await);
    let channel = channel([&strong, &weak], false);
    until_share(&channel, &strong, 29..=31).await;
}

#[tokio::test]
async fn reports_out_of_band_weigh_endpoints() {
    let (strong, weak) = (reporting(300.0, true).await, reporting(100.0, true).await);
    let channel = channel([&strong, &weak], true);
    until_share(&channel, &strong, 29..=31).await;
}
