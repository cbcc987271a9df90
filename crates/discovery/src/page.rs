//! A page, by HTTP/1.1 without TLS.

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{
    Request, Uri,
    header::HOST,
    response::{Parts, Response},
};
use http_body_util::Empty;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

/// What the page answers with, less its body; the caller sets a bound. Cancellation safe.
pub(crate) async fn get(uri: &Uri) -> Result<Parts> {
    let host = uri.host().context("the URL has no host")?;
    let port = uri.port_u16().unwrap_or(80);
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await;
    let stream = stream.with_context(|| format!("cannot connect to {host}:{port}"))?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(HOST, format!("{host}:{port}"))
        .body(Empty::<Bytes>::new())?;
    let answer: Response<_> = sender.send_request(request).await?;
    Ok(answer.into_parts().0)
}
