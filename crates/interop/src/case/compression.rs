//! Messages that gzip makes smaller, as tonic's clients ask for it.

use anyhow::{Context as _, Result, bail, ensure};
use balance::Channel;
use tonic::{Code, Status, body::Body, codec::CompressionEncoding::Gzip};
use tower::{Service as _, service_fn};

use super::unary::{ensure_large, large_request};
use crate::{
    testing::{BoolValue, SimpleRequest, test_service_client::TestServiceClient},
    wire::CompressedFlags,
};

/// What a client is told of compression.
#[derive(Debug, Clone, Copy, Default)]
struct Settings {
    send: bool,
    accept: bool,
}

/// Which messages of a call were compressed on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Compressed {
    request: Vec<bool>,
    response: Vec<bool>,
}

pub(super) async fn client_compressed(channel: &Channel) -> Result<()> {
    let expecting = |value| SimpleRequest {
        expect_compressed: Some(BoolValue { value }),
        ..large_request()
    };
    let compressing = |send| Settings {
        send,
        ..Settings::default()
    };
    // The probe: a server that finds nothing wrong here cannot tell.
    match call(channel, compressing(false), expecting(true)).await? {
        Err(status) if status.code() == Code::InvalidArgument => {}
        Err(status) => bail!("{status}; it was to be INVALID_ARGUMENT"),
        Ok(_) => bail!("the server does not see that a request is not compressed"),
    }
    for send in [true, false] {
        let compressed = call(channel, compressing(send), expecting(send)).await??;
        ensure_eq(&compressed, send, false)?;
    }
    Ok(())
}

pub(super) async fn server_compressed(channel: &Channel) -> Result<()> {
    let accepting = Settings {
        accept: true,
        ..Settings::default()
    };
    for value in [true, false] {
        let request = SimpleRequest {
            response_compressed: Some(BoolValue { value }),
            ..large_request()
        };
        let compressed = call(channel, accepting, request).await??;
        ensure_eq(&compressed, false, value)?;
    }
    Ok(())
}

pub(super) async fn both_ways(channel: &Channel) -> Result<()> {
    let settings = Settings {
        send: true,
        accept: true,
    };
    let request = SimpleRequest {
        response_compressed: Some(BoolValue { value: true }),
        ..large_request()
    };
    let compressed = call(channel, settings, request).await??;
    ensure_eq(&compressed, true, true)
}

/// `large_unary` through a client of these settings; the outer error is a response that is not as it is to be.
async fn call(
    channel: &Channel,
    settings: Settings,
    request: SimpleRequest,
) -> Result<Result<Compressed, Status>> {
    let observed = service_fn(|request| observe(channel.clone(), request));
    let mut client = TestServiceClient::new(observed);
    if settings.send {
        client = client.send_compressed(Gzip);
    }
    if settings.accept {
        client = client.accept_compressed(Gzip);
    }
    let (_, response, extensions) = match client.unary_call(request).await {
        Ok(response) => response.into_parts(),
        Err(status) => return Ok(Err(status)),
    };
    ensure_large(response.payload.as_ref())?;
    let wire = extensions.get::<Wire>().context("nobody has observed it")?;
    Ok(Ok(Compressed {
        request: wire.request.so_far(),
        response: wire.response.so_far(),
    }))
}

/// The flags of a call, among its response's extensions.
#[derive(Debug, Clone)]
struct Wire {
    request: CompressedFlags,
    response: CompressedFlags,
}

async fn observe(
    mut channel: Channel,
    request: http::Request<Body>,
) -> Result<http::Response<Body>, std::convert::Infallible> {
    let (head, body) = request.into_parts();
    let (body, request) = CompressedFlags::of(body);
    let answered = channel.call(http::Request::from_parts(head, body)).await;
    let (mut head, body) = answered?.into_parts();
    let (body, response) = CompressedFlags::of(body);
    head.extensions.insert(Wire { request, response });
    Ok(http::Response::from_parts(head, body))
}

fn ensure_eq(compressed: &Compressed, request: bool, response: bool) -> Result<()> {
    let wanted = Compressed {
        request: vec![request],
        response: vec![response],
    };
    ensure!(
        *compressed == wanted,
        "on the wire: {compressed:?}; it was to be {wanted:?}"
    );
    Ok(())
}
