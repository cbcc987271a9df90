//! Messages that a server gathers and never gets whole.

use std::{future::poll_fn, io, net::SocketAddr};

use bytes::Bytes;
use futures_util::future::try_join_all;
use h2::{SendStream, client};
use http::{Request, Response};
use tokio::{net::TcpStream, select, task::JoinSet};

const PIECE: usize = 64 * 1024;
static NOTHING: [u8; PIECE] = [0; PIECE];
/// gRPC's `RESOURCE_EXHAUSTED`.
const EXHAUSTED: &str = "8";

/// Calls of a greeter that have sent all of a message of 4 MiB but its last byte. They are kept until this is dropped.
#[derive(Debug)]
pub struct AlmostWhole {
    _connections: JoinSet<()>,
    _kept: Vec<SendStream<Bytes>>,
    exhausted: usize,
}

impl AlmostWhole {
    /// On so many connections.
    pub const CONNECTIONS: usize = 4;
    /// In all, so that 512 MiB are sent.
    pub const CALLS: usize = 32 * Self::CONNECTIONS;
    /// What each of them promises, in bytes: the longest message that gRPC takes without being told otherwise.
    pub const MESSAGE: usize = 4 * 1024 * 1024;

    /// Makes the calls, and comes back when each has been ended by the server or has sent what it sends.
    ///
    /// # Errors
    /// When a connection is not made or is ended, or a call ends otherwise than with `RESOURCE_EXHAUSTED`. Takes as long as the
    /// server does, which is for ever when it reads nothing. Cancelled, all connections are closed.
    pub async fn send(server: SocketAddr) -> io::Result<Self> {
        let (mut connections, mut calls) = (JoinSet::new(), Vec::new());
        for _ in 0..Self::CONNECTIONS {
            let socket = TcpStream::connect(server).await?;
            let (mut requests, connection) = handshake(socket).await?;
            // How it has ended is told to its calls.
            connections.spawn(async { drop(connection.await) });
            for _ in 0..Self::CALLS / Self::CONNECTIONS {
                requests = requests.ready().await.map_err(io::Error::other)?;
                let made = requests.send_request(request(), false);
                calls.push(made.map_err(io::Error::other)?);
            }
        }
        let outcomes = calls.into_iter().map(async |(response, mut body)| {
            select! {
                biased;
                response = response => is_exhausted(&response.map_err(io::Error::other)?).map(|()| None),
                sent = send_almost(&mut body) => sent.map(|()| Some(body)),
            }
        });
        let kept: Vec<_> = try_join_all(outcomes)
            .await?
            .into_iter()
            .flatten()
            .collect();
        Ok(Self {
            _connections: connections,
            exhausted: Self::CALLS - kept.len(),
            _kept: kept,
        })
    }

    /// How many calls were ended with `RESOURCE_EXHAUSTED` before they had sent what they send.
    pub fn exhausted(&self) -> usize {
        self.exhausted
    }
}

pub(super) async fn handshake(
    socket: TcpStream,
) -> io::Result<(client::SendRequest<Bytes>, client::Connection<TcpStream>)> {
    client::handshake(socket).await.map_err(io::Error::other)
}

pub(super) fn request() -> Request<()> {
    Request::post("http://greeter/helloworld.Greeter/SayHello")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("it is well-formed")
}

pub(super) fn is_exhausted(response: &Response<h2::RecvStream>) -> io::Result<()> {
    let status = response.headers().get("grpc-status");
    if status.is_some_and(|status| status == EXHAUSTED) {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "a call has ended with {response:?}"
    )))
}

async fn send_almost(body: &mut SendStream<Bytes>) -> io::Result<()> {
    send(body, AlmostWhole::MESSAGE, &[], AlmostWhole::MESSAGE - 1).await
}

/// Promises a message of that length, and sends so much of it: its beginning, and then nothing but zeros.
pub(super) async fn send(
    body: &mut SendStream<Bytes>,
    length: usize,
    beginning: &[u8],
    sent: usize,
) -> io::Result<()> {
    let length = u32::try_from(length).map_err(io::Error::other)?;
    let head = [&[0], length.to_be_bytes().as_slice(), beginning].concat();
    body.send_data(head.into(), false)
        .map_err(io::Error::other)?;
    let mut left = sent - beginning.len();
    while left > 0 {
        body.reserve_capacity(left.min(PIECE));
        let room = poll_fn(|task| body.poll_capacity(task)).await;
        let room = room.ok_or_else(|| io::Error::other("the call has ended"))?;
        let piece = room.map_err(io::Error::other)?.min(left).min(PIECE);
        let piece = Bytes::from_static(&NOTHING[..piece]);
        left -= piece.len();
        body.send_data(piece, false).map_err(io::Error::other)?;
    }
    Ok(())
}
