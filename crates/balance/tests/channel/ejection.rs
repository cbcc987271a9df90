//! Endpoints that outlier detection (gRFC A50) keeps calls from, by what their calls come to over an interval.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use balance::Channel;
use tokio::time::timeout;
use tonic::Code;

use crate::{
    BOUND, call,
    peer::{Peer, greet, handshake, refuse},
    server::Server,
    to_with, until_ready,
};

/// Four servers that are well, and one that refuses its calls while it is told to.
struct Fleet {
    well: Vec<Server>,
    other: Peer,
    refuses: Arc<AtomicBool>,
}

impl Fleet {
    async fn start() -> Self {
        let mut well = Vec::new();
        for _ in 0..4 {
            well.push(Server::start().await);
        }
        let refuses = Arc::new(AtomicBool::new(true));
        let told = Arc::clone(&refuses);
        let other = Peer::start(move |_, socket, address| {
            let told = Arc::clone(&told);
            async move {
                let mut connection = handshake(socket).await;
                while let Some(Ok((_request, respond))) = connection.accept().await {
                    if told.load(Ordering::SeqCst) {
                        refuse(respond, Code::Internal, "broken");
                    } else {
                        greet(respond, "x", &address);
                    }
                }
            }
        });
        Self {
            well,
            other: other.await,
            refuses,
        }
    }

    /// A channel that looks each half second for outliers by that algorithm, and ejects them for one.
    async fn channel(&self, algorithm: &str) -> Channel {
        let mut addresses: Vec<_> = self.well.iter().map(|server| &server.address).collect();
        addresses.push(&self.other.address);
        let config = format!(
            r#"{{"loadBalancingConfig":[{{"outlier_detection":{{"interval":"0.5s","baseEjectionTime":"0.5s",
                "maxEjectionPercent":50,{algorithm},"childPolicy":[{{"round_robin":{{}}}}]}}}}]}}"#
        );
        let channel = to_with(&addresses, &config);
        until_ready(&channel, addresses.len()).await;
        channel
    }
}

/// Why the endpoint is ejected at whose address calls fail.
fn ejected(channel: &Channel) -> Option<String> {
    let mut endpoints = channel.explain().endpoints.into_iter();
    endpoints.find_map(|endpoint| Some(endpoint.ejection?.why))
}

#[tokio::test]
async fn an_endpoint_that_fails_more_than_others_is_ejected_for_a_while() {
    for (algorithm, said) in [
        (
            r#""successRateEjection":{"minimumHosts":5,"requestVolume":3}"#,
            "0.0 % of its calls succeeded",
        ),
        (
            r#""failurePercentageEjection":{"threshold":50,"minimumHosts":5,"requestVolume":3}"#,
            "100.0 % of its calls failed",
        ),
    ] {
        let fleet = Fleet::start().await;
        let channel = fleet.channel(algorithm).await;
        let why = timeout(BOUND, async {
            loop {
                // A fifth of them fail.
                let _ = call(&channel, "x").await;
                if let Some(why) = ejected(&channel) {
                    return why;
                }
            }
        });
        let why = why.await.expect("it is ejected");
        assert!(why.contains(said), "{why}");
        fleet.refuses.store(false, Ordering::SeqCst);
        let back = timeout(BOUND, async {
            loop {
                let before = ejected(&channel);
                let by = call(&channel, "x").await.expect("an answer");
                if by == fleet.other.address.as_str() {
                    let is_still = before.is_some() && ejected(&channel).is_some();
                    return assert!(!is_still, "it was called while it was ejected");
                }
            }
        });
        back.await.expect("it is picked again");
    }
}
