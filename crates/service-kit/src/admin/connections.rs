//! The connections to the admin page: so many at a time, each for one request and for so long.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    net::TcpListener,
    select,
    task::JoinSet,
    time::{sleep, timeout},
};

/// What whoever reaches the page can have it hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Those that are served at a time; who comes then waits until one has ended.
    pub(super) connections: usize,
    /// How long one lasts at most, from its beginning to the last byte of the answer.
    pub(super) duration: Duration,
}

/// After a failure such as "too many open files", which the next try would only repeat.
const PAUSE: Duration = Duration::from_millis(500);

/// Answers from `router` until it is dropped, and with it all connections.
pub(super) async fn serve(listener: TcpListener, router: Router, limits: Limits) {
    let mut connections = JoinSet::new();
    loop {
        select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < limits.connections => {
                match accepted {
                    Ok((socket, _)) => {
                        let answers = TowerToHyperService::new(router.clone());
                        let connection = http1::Builder::new()
                            .keep_alive(false)
                            .serve_connection(TokioIo::new(socket), answers);
                        connections.spawn(timeout(limits.duration, connection));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the admin page cannot accept a connection; trying again");
                        sleep(PAUSE).await;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };
    use tokio_util::task::AbortOnDropHandle;

    use super::{Duration, Limits, Router, TcpListener, serve, timeout};

    /// More than anything here takes on a busy machine.
    const BOUND: Duration = Duration::from_secs(20);
    /// For where nothing but the end is waited for.
    const MOMENT: Duration = Duration::from_millis(100);
    /// Enough to ask and be answered on such a machine, and not long to wait for.
    const SHORT: Duration = Duration::from_secs(1);
    /// More than what a peer's socket and ours hold of it.
    const LARGE: usize = 64 * 1024 * 1024;

    /// A server that answers that much, one connection at a time and each for so long.
    async fn start(answer: usize, duration: Duration) -> (SocketAddr, AbortOnDropHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().route("/", get(async move || "x".repeat(answer)));
        let limits = Limits {
            connections: 1,
            duration,
        };
        let serving = tokio::spawn(serve(listener, router, limits));
        (address, AbortOnDropHandle::new(serving))
    }

    /// A connection on which that has been said.
    async fn said(address: SocketAddr, text: &str) -> TcpStream {
        let mut socket = TcpStream::connect(address).await.expect("it listens");
        let written = socket.write_all(text.as_bytes()).await;
        written.expect("it is taken");
        socket
    }

    /// What comes until the connection has ended, in whichever way.
    async fn until_its_end(mut socket: TcpStream) -> Vec<u8> {
        let mut come = Vec::new();
        let ended = timeout(BOUND, socket.read_to_end(&mut come)).await;
        let _ = ended.expect("it ends");
        come
    }

    #[tokio::test]
    async fn who_does_not_finish_a_request_is_sent_away() {
        let (address, _serving) = start(1, MOMENT).await;
        for begun in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: a\r\n"] {
            assert_eq!(until_its_end(said(address, begun).await).await, b"");
        }
    }

    #[tokio::test]
    async fn a_connection_ends_with_its_answer() {
        let (address, _serving) = start(1, 2 * BOUND).await;
        let asked = said(address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let answer = until_its_end(asked).await;
        assert!(answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(b"\r\n\r\nx"));
    }

    #[tokio::test]
    async fn who_does_not_read_the_answer_holds_up_others_for_a_moment_only() {
        let (address, _serving) = start(LARGE, SHORT).await;
        let request = "GET / HTTP/1.0\r\n\r\n";
        let _unread = said(address, request).await;
        let answer = until_its_end(said(address, request).await);
        assert!(!answer.await.is_empty());
    }

    #[tokio::test]
    async fn who_comes_when_there_are_as_many_as_may_be_is_served_when_one_has_ended() {
        let (address, _serving) = start(1, SHORT).await;
        let silent = said(address, "").await;
        let answer = until_its_end(said(address, "GET / HTTP/1.0\r\n\r\n").await).await;
        assert!(answer.starts_with(b"HTTP/1.0 200 "), "{answer:?}");
        let ended = silent.try_read(&mut [0]);
        assert_eq!(ended.ok(), Some(0), "the first has ended before");
    }
}
