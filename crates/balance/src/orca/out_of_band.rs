//! Load reports that come by themselves, apart from any call (gRFC A51).

use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use registry::BackoffPolicy;

use super::LoadReport;
use crate::{
    status::Status,
    transport::{
        Connection,
        rpc::{Event, Head, Stopped, Subscription},
    },
};

const STREAM: &str = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics";

/// A subscription to servers' reports, the same for all endpoints of a channel. Another interval takes another one.
#[derive(Debug)]
pub(crate) struct OutOfBand {
    stream: Subscription,
    told_unimplemented: AtomicBool,
}

impl OutOfBand {
    /// Asks for a report each `interval`; a server may send them more rarely.
    pub(crate) fn new(interval: Duration, head: Head, backoff: BackoffPolicy) -> Self {
        let request = OrcaLoadReportRequest {
            report_interval: Some(ProtoDuration {
                seconds: i64::try_from(interval.as_secs()).unwrap_or(i64::MAX),
                nanos: i32::try_from(interval.subsec_nanos()).expect("less than a second"),
            }),
        };
        Self {
            stream: Subscription::new(head, STREAM, &request, backoff),
            told_unimplemented: AtomicBool::new(false),
        }
    }

    /// Tells `on` each report that the server at the other side of `connection` sends.
    ///
    /// A server without reports is not asked again on this connection, and a stream that ends is made again with backoff.
    /// It never ends. Dropping the future cancels the stream, and gives back the HTTP/2 stream that it holds.
    pub(crate) async fn run(
        &self,
        connection: &Arc<Connection>,
        mut on: impl FnMut(LoadReport),
    ) -> Infallible {
        let peer = connection.peer();
        let stream = self.stream.follow(connection, |event| match event {
            Event::Message(report) => on(report),
            Event::Ended(status) => tracing::debug!(
                %peer,
                code = status.code.name(),
                cause = %status.message,
                "the stream of load reports ended"
            ),
        });
        if let Stopped::Unimplemented(status) = stream.await {
            self.tell_unimplemented(peer, &status);
        }
        pending().await
    }

    /// A51 wants it logged as an error; once for the channel, and not for each of its endpoints' connections.
    fn tell_unimplemented(&self, peer: &str, status: &Status) {
        if !self.told_unimplemented.swap(true, Ordering::Relaxed) {
            tracing::error!(
                peer,
                cause = %status.message,
                "load reports are configured to come out of band, and the server sends none"
            );
        }
    }
}

/// `xds.service.orca.v3.OrcaLoadReportRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct OrcaLoadReportRequest {
    #[prost(message, optional, tag = "1")]
    report_interval: Option<ProtoDuration>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct ProtoDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[cfg(test)]
mod tests {
    use tokio::{select, sync::mpsc, time::timeout};

    use super::{Arc, BackoffPolicy, Duration, LoadReport};
    use crate::{
        orca::OutOfBand,
        status::Code,
        transport::{
            Connection,
            rpc::peer::{BOUND, connected, end, given_up, head, open, refuse, send},
        },
    };

    fn subscription() -> OutOfBand {
        let backoff = BackoffPolicy {
            initial: Duration::from_millis(2),
            ..BackoffPolicy::GRPC
        };
        OutOfBand::new(Duration::from_millis(1_500), head(), backoff)
    }

    /// The calls a second of the first two reports.
    async fn reported(connection: &Arc<Connection>) -> [Option<f64>; 2] {
        let (tell, mut told) = mpsc::unbounded_channel();
        let subscription = subscription();
        let running = subscription.run(connection, move |report| {
            tell.send(report.rps_fractional).expect("heard");
        });
        let both = async { [told.recv().await, told.recv().await] };
        select! {
            never = running => match never {},
            both = timeout(BOUND, both) => both.expect("in time"),
        }
    }

    fn report(stream: &mut h2::SendStream<bytes::Bytes>, qps: f64) {
        let report = LoadReport {
            rps_fractional: qps,
            ..LoadReport::default()
        };
        send(stream, &report);
    }

    #[tokio::test]
    async fn reports_come_as_asked_for_and_again_after_the_stream_has_ended() {
        let (connection, _peer) = connected(|number, mut request, mut respond| async move {
            assert_eq!(
                request.uri().path(),
                "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics"
            );
            let body = request.body_mut().data().await;
            // By hand: field 1 is a message of 8 bytes with 1 s and 500,000,000 ns.
            let asked = [
                0, 0, 0, 0, 10, 0x0A, 8, 0x08, 1, 0x10, 0x80, 0xCA, 0xB5, 0xEE, 0x01,
            ];
            assert_eq!(body.expect("a request").expect("open")[..], asked);
            let mut stream = open(&mut respond);
            if number == 0 {
                report(&mut stream, 1.0);
                return end(&mut stream, Code::Unavailable);
            }
            report(&mut stream, 2.0);
            given_up(&mut stream).await;
        })
        .await;
        assert_eq!(reported(&connection).await, [Some(1.0), Some(2.0)]);
    }

    #[tokio::test]
    async fn a_server_without_reports_is_not_asked_again() {
        let (asked, mut ask) = mpsc::unbounded_channel();
        let (connection, _peer) = connected(move |number, _, mut respond| {
            asked.send(number).expect("the test waits");
            async move { refuse(&mut respond, Code::Unimplemented) }
        })
        .await;
        let subscription = subscription();
        let mut running = std::pin::pin!(subscription.run(&connection, |_| {}));
        select! {
            never = &mut running => match never {},
            first = timeout(BOUND, ask.recv()) => assert_eq!(first, Ok(Some(0))),
        }
        // Paused, the clock goes to the next timer: to a second call's, if there were one.
        tokio::time::pause();
        select! {
            never = &mut running => match never {},
            second = timeout(Duration::from_hours(1), ask.recv()) => assert!(second.is_err()),
        }
    }
}
