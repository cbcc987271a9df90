//! A peer that speaks HTTP/2 by a script, for what real servers do not do.

use std::{future::Future, io, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{
    Ping, PingPong, SendStream,
    server::{Connection, SendResponse},
};
use http::{HeaderMap, Response};
use prost::Message;
use proto::helloworld::HelloReply;
use registry::Address;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Mutex,
};
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;

pub(crate) struct Peer {
    pub(crate) address: Address,
    _task: AbortOnDropHandle<()>,
}

impl Peer {
    /// Listens, and gives each socket that comes, with its number from 0, to `script`.
    pub(crate) async fn start<F>(
        script: impl Fn(usize, TcpStream, Address) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = Address::from(listener.local_addr().expect("bound"));
        let own = address.clone();
        let task = tokio::spawn(async move {
            let mut scripts = tokio::task::JoinSet::new();
            for number in 0.. {
                let (socket, _) = listener.accept().await.expect("accepts");
                scripts.spawn(script(number, socket, own.clone()));
            }
        });
        Self {
            address,
            _task: AbortOnDropHandle::new(task),
        }
    }
}

impl Peer {
    /// Speaks HTTP/2, and gives each call to `answer`.
    pub(crate) async fn answering(
        answer: impl Fn(SendResponse<Bytes>) + Clone + Send + 'static,
    ) -> Self {
        Self::start(move |_, socket, _| {
            let answer = answer.clone();
            async move {
                let mut connection = handshake(socket).await;
                while let Some(Ok((_request, respond))) = connection.accept().await {
                    answer(respond);
                }
            }
        })
        .await
    }
}

/// Knows what the client of one connection has read.
#[derive(Clone)]
pub(crate) struct Seen(Arc<Mutex<PingPong>>);

impl Seen {
    pub(crate) fn on(connection: &mut Connection<TcpStream, Bytes>) -> Self {
        let pings = connection.ping_pong().expect("nobody else sends any");
        Self(Arc::new(Mutex::new(pings)))
    }

    /// Waits until it has read what was written so far: the answer to a PING comes after that.
    pub(crate) async fn by_the_client(&self) {
        let pong = self.0.lock().await.ping(Ping::opaque()).await;
        pong.expect("the client goes on");
    }
}

/// Begins an answer as gRPC does.
pub(crate) fn open(mut respond: SendResponse<Bytes>) -> SendStream<Bytes> {
    let response = Response::builder()
        .header("content-type", "application/grpc")
        .body(())
        .expect("a response");
    respond.send_response(response, false).expect("open")
}

pub(crate) async fn handshake(socket: TcpStream) -> Connection<TcpStream, Bytes> {
    h2::server::handshake(socket)
        .await
        .expect("an HTTP/2 client")
}

/// Answers as the greeter at `address` would.
pub(crate) fn greet(respond: SendResponse<Bytes>, name: &str, address: &Address) {
    greet_with(HeaderMap::new(), respond, name, address);
}

/// The same with more trailers than the status.
pub(crate) fn greet_with(
    mut trailers: HeaderMap,
    respond: SendResponse<Bytes>,
    name: &str,
    address: &Address,
) {
    let mut stream = open(respond);
    let reply = HelloReply {
        message: format!("Hello {name} from {address}"),
    }
    .encode_to_vec();
    stream.send_data(framed(&reply), false).expect("open");
    trailers.insert("grpc-status", 0.into());
    stream.send_trailers(trailers).expect("open");
}

/// Answers with a status and nothing else.
pub(crate) fn refuse(mut respond: SendResponse<Bytes>, code: Code, message: &str) {
    let response = Response::builder()
        .header("content-type", "application/grpc")
        .header("grpc-status", i32::from(code))
        .header("grpc-message", message)
        .body(())
        .expect("a response");
    respond.send_response(response, true).expect("open");
}

/// A message as gRPC frames it.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).expect("short").to_be_bytes());
    framed.extend(message);
    framed.into()
}

/// Goes on speaking HTTP/2 until the other side ends, greeting whoever asks.
pub(crate) async fn greet_all(
    mut connection: Connection<TcpStream, Bytes>,
    name: &'static str,
    address: Address,
) {
    while let Some(Ok((_request, respond))) = connection.accept().await {
        greet(respond, name, &address);
    }
}

/// Answers the first call with a GOAWAY whose last id is below the call's, frame by frame: h2's own server counts a
/// stream as processed as soon as it has read its headers.
pub(crate) async fn go_away_unprocessed(mut socket: TcpStream) -> io::Result<()> {
    const PREFACE: usize = 24;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    socket.read_exact(&mut [0; PREFACE]).await?;
    socket
        .write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0])
        .await?;
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await?;
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        socket.read_exact(&mut payload).await?;
        match (head[3], head[4]) {
            (PING, 0) => {
                socket.write_all(&[0, 0, 8, PING, 1, 0, 0, 0, 0]).await?;
                socket.write_all(&payload).await?;
            }
            (HEADERS, _) => break,
            _ => {}
        }
    }
    // GOAWAY: last stream id 0, NO_ERROR.
    socket
        .write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        .await?;
    socket.read_to_end(&mut Vec::new()).await.map(drop)
}

/// Holds a socket open without a word.
pub(crate) async fn hang(socket: TcpStream) {
    tokio::time::sleep(Duration::from_hours(1)).await;
    drop(socket);
}
