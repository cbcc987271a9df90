//! Answers that nobody reads.

use std::{io, net::SocketAddr};

use bytes::Bytes;
use h2::{RecvStream, client};
use tokio::{net::TcpStream, task::JoinSet};

use super::almost_whole::{request, send};

/// `name` of a `HelloRequest`: its number and kind, and how long it is (three bytes, seven bits in each, the last first).
const NAME: [u8; 4] = [0x0a, 0xfc, 0xff, 0x3f];

/// Calls of a greeter whose messages are whole, and whose answers have come but for all of their first byte. They are kept until this is
/// dropped.
#[derive(Debug)]
pub struct Unread {
    _connection: JoinSet<()>,
    _answers: Vec<RecvStream>,
}

impl Unread {
    /// On one connection.
    pub const CALLS: usize = 8;
    /// How long each message is, in bytes; its answer is longer by what a greeting has beside a name.
    pub const MESSAGE: usize = 1024 * 1024;

    /// Makes the calls one after the other, and comes back when a byte of each answer has come.
    ///
    /// # Errors
    /// When the connection is not made or is ended, or a call ends without an answer. Takes as long as the server does. Cancelled, the
    /// connection is closed.
    pub async fn send(server: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(server).await?;
        let handshake = client::Builder::new()
            .initial_window_size(1)
            .handshake::<_, Bytes>(socket);
        let (mut requests, connection) = handshake.await.map_err(io::Error::other)?;
        let mut connections = JoinSet::new();
        // How it has ended is told to its calls.
        connections.spawn(async { drop(connection.await) });
        let mut answers = Vec::new();
        for _ in 0..Self::CALLS {
            requests = requests.ready().await.map_err(io::Error::other)?;
            let made = requests.send_request(request(), false);
            let (response, mut body) = made.map_err(io::Error::other)?;
            send(&mut body, Self::MESSAGE, &NAME, Self::MESSAGE).await?;
            body.send_data(Bytes::new(), true)
                .map_err(io::Error::other)?;
            let mut answer = response.await.map_err(io::Error::other)?.into_body();
            let first = answer.data().await.ok_or(io::ErrorKind::UnexpectedEof)?;
            first.map_err(io::Error::other)?;
            answers.push(answer);
        }
        Ok(Self {
            _connection: connections,
            _answers: answers,
        })
    }
}
