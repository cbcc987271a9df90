//! gRPC calls frame by frame, for what no generated client does: to send a part of a message, and to go on later.

use std::{future::poll_fn, io, net::SocketAddr};

use bytes::Bytes;
use h2::{
    SendStream,
    client::{self, ResponseFuture, SendRequest},
};
use http::{Request, request};
use tokio::{net::TcpStream, task::JoinSet};

/// One connection, and the calls that are made on it. Dropped, it is closed.
#[derive(Debug)]
pub struct Caller {
    requests: SendRequest<Bytes>,
    _connection: JoinSet<()>,
}

impl Caller {
    /// Connects in clear.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn connect(server: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(server).await?;
        let handshake = client::handshake(socket).await;
        let (requests, connection) = handshake.map_err(io::Error::other)?;
        let mut running = JoinSet::new();
        // How it has ended is told to its calls.
        running.spawn(async { drop(connection.await) });
        Ok(Self {
            requests,
            _connection: running,
        })
    }

    /// Begins a call of `package.Service/Method`. It waits while as many are under way as the server allows.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn call(&mut self, method: &str) -> io::Result<Call> {
        self.begin(Self::request(method)).await
    }

    /// The same for a call whose `grpc-timeout` is this, as in `250m`: the server is told, and nothing ends it here.
    ///
    /// # Errors
    /// When the connection has ended, or that is no header.
    pub async fn call_within(&mut self, method: &str, timeout: &str) -> io::Result<Call> {
        let request = Self::request(method).header("grpc-timeout", timeout);
        self.begin(request).await
    }

    fn request(method: &str) -> request::Builder {
        Request::post(format!("http://server/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
    }

    async fn begin(&mut self, request: request::Builder) -> io::Result<Call> {
        let request = request.body(()).map_err(io::Error::other)?;
        let ready = self.requests.clone().ready().await;
        self.requests = ready.map_err(io::Error::other)?;
        let made = self.requests.send_request(request, false);
        let (response, body) = made.map_err(io::Error::other)?;
        Ok(Call { response, body })
    }

    /// The error code of the GOAWAY that the server has sent; `None` while it has sent none.
    ///
    /// # Errors
    /// When the connection has ended in another way.
    pub async fn told_to_go(&self) -> io::Result<Option<u32>> {
        match self.requests.clone().ready().await {
            Ok(_) => Ok(None),
            Err(error) if error.is_go_away() && error.is_remote() => {
                Ok(error.reason().map(u32::from))
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// A call under way.
#[derive(Debug)]
pub struct Call {
    response: ResponseFuture,
    body: SendStream<Bytes>,
}

impl Call {
    /// Sends these bytes of its request, by and by as the server lets it. In vain once the caller has heard that the server takes no
    /// more.
    pub fn say(&mut self, bytes: impl Into<Bytes>) {
        let _ = self.body.send_data(bytes.into(), false);
    }

    /// Sends the last of them.
    pub fn end(&mut self, bytes: impl Into<Bytes>) {
        let _ = self.body.send_data(bytes.into(), true);
    }

    /// With which error code of HTTP/2 it was reset, when it was.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn reset(&mut self) -> io::Result<u32> {
        let reason = poll_fn(|task| self.body.poll_reset(task)).await;
        reason.map(u32::from).map_err(io::Error::other)
    }

    /// Its `grpc-status`, when it has ended; the request may go on nevertheless.
    ///
    /// # Errors
    /// When it has ended without one, or the connection has.
    pub async fn status(&mut self) -> io::Result<String> {
        let response = (&mut self.response).await.map_err(io::Error::other)?;
        let (head, mut body) = response.into_parts();
        while let Some(data) = body.data().await {
            let data = data.map_err(io::Error::other)?;
            let released = body.flow_control().release_capacity(data.len());
            released.map_err(io::Error::other)?;
        }
        let trailers = body.trailers().await.map_err(io::Error::other)?;
        let status = trailers
            .as_ref()
            .unwrap_or(&head.headers)
            .get("grpc-status");
        let status = status.and_then(|status| status.to_str().ok());
        let status = status.ok_or_else(|| io::Error::other("the call has ended without a status"));
        status.map(str::to_owned)
    }
}

/// The beginning of a message as gRPC frames it: so many bytes are promised, and these have come.
pub fn message(promised: u32, come: &[u8]) -> Bytes {
    [&[0], promised.to_be_bytes().as_slice(), come]
        .concat()
        .into()
}
