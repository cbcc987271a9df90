//! HTTP/2 as its frames, for a server that does what h2's own cannot be made to do.

use std::{collections::HashMap, io};

use prost::Message;
use proto::helloworld::{HelloReply, HelloRequest};
use registry::Address;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

// RFC 9113, section 6.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// What a response of gRPC begins with.
pub(crate) const HEAD: [(&str, &str); 2] =
    [(":status", "200"), ("content-type", "application/grpc")];

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(payload.len())
        .expect("short enough")
        .to_be_bytes()[1..]
        .to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A GOAWAY that says `NO_ERROR`.
pub(crate) fn go_away(last: u32) -> Vec<u8> {
    let payload = [last.to_be_bytes(), [0; 4]].concat();
    frame(GOAWAY, 0, 0, &payload)
}

/// Header fields as HPACK's literals, which no table remembers (RFC 7541, section 6.2.2).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            put_length(&mut out, text.len());
            out.extend(text.bytes());
        }
    }
    out
}

/// An integer with a prefix of seven bits (RFC 7541, section 5.1).
fn put_length(out: &mut Vec<u8>, length: usize) {
    const PREFIX: usize = 127;
    let byte = |n: usize| u8::try_from(n).expect("seven bits");
    if length < PREFIX {
        return out.push(byte(length));
    }
    out.push(byte(PREFIX));
    let mut rest = length - PREFIX;
    while rest >= 128 {
        out.push(byte(rest % 128) | 128);
        rest /= 128;
    }
    out.push(byte(rest));
}

/// gRPC's message of a greeting.
pub(crate) fn greeting(name: &str, address: &Address) -> Vec<u8> {
    let message = format!("Hello {name} from {address}");
    let reply = HelloReply { message }.encode_to_vec();
    framed(0, u32::try_from(reply.len()).expect("short enough"), &reply)
}

/// gRPC's message that asks for a greeting.
pub(crate) fn asking(name: &str) -> Vec<u8> {
    let request = HelloRequest { name: name.into() }.encode_to_vec();
    framed(
        0,
        u32::try_from(request.len()).expect("short enough"),
        &request,
    )
}

/// A message with whatever its prefix is to say of it.
pub(crate) fn framed(compressed: u8, length: u32, message: &[u8]) -> Vec<u8> {
    [&[compressed], length.to_be_bytes().as_slice(), message].concat()
}

/// What a server writes, on one stream in the main.
#[derive(Debug)]
pub(crate) struct Script {
    stream: u32,
    bytes: Vec<u8>,
}

impl Script {
    pub(crate) fn on(stream: u32) -> Self {
        Self {
            stream,
            bytes: Vec::new(),
        }
    }

    /// Begins an answer as gRPC does.
    pub(crate) fn head(self) -> Self {
        self.headers(0, &HEAD)
    }

    pub(crate) fn headers(self, flags: u8, fields: &[(&str, &str)]) -> Self {
        self.frame(HEADERS, END_HEADERS | flags, &block(fields))
    }

    /// Headers in as many frames as they need.
    pub(crate) fn long_headers(mut self, flags: u8, fields: &[(&str, &str)]) -> Self {
        let (block, mut kind) = (block(fields), HEADERS);
        let mut pieces = block.chunks(16 << 10).peekable();
        while let Some(piece) = pieces.next() {
            let last = if pieces.peek().is_none() {
                END_HEADERS
            } else {
                0
            };
            let flags = if kind == HEADERS { flags | last } else { last };
            self = self.frame(kind, flags, piece);
            kind = CONTINUATION;
        }
        self
    }

    pub(crate) fn data(self, flags: u8, data: &[u8]) -> Self {
        self.frame(DATA, flags, data)
    }

    /// Ends an answer as gRPC does.
    pub(crate) fn end(self, status: &str) -> Self {
        self.headers(END_STREAM, &[("grpc-status", status)])
    }

    pub(crate) fn reset(self, reason: h2::Reason) -> Self {
        self.frame(RST_STREAM, 0, &u32::from(reason).to_be_bytes())
    }

    pub(crate) fn frame(self, kind: u8, flags: u8, payload: &[u8]) -> Self {
        let frame = frame(kind, flags, self.stream, payload);
        self.raw(&frame)
    }

    /// Bytes that need not be a frame.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    /// The whole of a good answer.
    pub(crate) fn greets(self, name: &str, address: &Address) -> Self {
        self.head().data(0, &greeting(name, address)).end("0")
    }
}

/// A whole request.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) stream: u32,
    /// Whom each of its messages asks to greet.
    pub(crate) names: Vec<String>,
}

/// A frame as it came.
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A server's side of a connection.
pub(crate) struct Wire {
    socket: TcpStream,
    /// Requests that are under way.
    requests: HashMap<u32, Vec<u8>>,
}

impl Wire {
    /// Begins as every server does: with settings.
    pub(crate) async fn open(socket: TcpStream) -> io::Result<Self> {
        let mut wire = Self::without_settings(socket).await?;
        wire.raw(&frame(SETTINGS, 0, 0, &[])).await?;
        Ok(wire)
    }

    /// Hears the client's preface out, and says nothing.
    pub(crate) async fn without_settings(mut socket: TcpStream) -> io::Result<Self> {
        const PREFACE: usize = 24;
        socket.read_exact(&mut [0; PREFACE]).await?;
        Ok(Self {
            socket,
            requests: HashMap::new(),
        })
    }

    /// Waits for a request that has ended. Everything that a good server answers meanwhile is answered.
    pub(crate) async fn asked(&mut self) -> io::Result<Asked> {
        loop {
            let frame = self.heard().await?;
            let is_request = matches!(frame.kind, HEADERS | DATA);
            if is_request && frame.flags & END_STREAM != 0 {
                let request = self.requests.remove(&frame.stream).unwrap_or_default();
                return Ok(Asked {
                    stream: frame.stream,
                    names: names(&request),
                });
            }
        }
    }

    /// Waits until so many messages have come of a request that may go on, and gives its stream.
    pub(crate) async fn asked_in_part(&mut self, messages: usize) -> io::Result<u32> {
        loop {
            let stream = self.heard().await?.stream;
            let request = self.requests.get(&stream);
            if request.is_some_and(|request| names(request).len() >= messages) {
                return Ok(stream);
            }
        }
    }

    /// Waits until the client has read what was written so far.
    pub(crate) async fn seen(&mut self) -> io::Result<()> {
        self.raw(&frame(PING, 0, 0, &[0; 8])).await?;
        loop {
            let frame = self.heard().await?;
            if (frame.kind, frame.flags & ACK) == (PING, ACK) {
                return Ok(());
            }
        }
    }

    /// The next frame, after what a good server does about it.
    pub(crate) async fn heard(&mut self) -> io::Result<Frame> {
        let frame = self.next().await?;
        match (frame.kind, frame.flags & ACK) {
            (SETTINGS, 0) => self.raw(&self::frame(SETTINGS, ACK, 0, &[])).await?,
            (PING, 0) => self.raw(&self::frame(PING, ACK, 0, &frame.payload)).await?,
            (DATA, _) => {
                let request = self.requests.entry(frame.stream).or_default();
                request.extend(&frame.payload);
            }
            _ => {}
        }
        Ok(frame)
    }

    /// The next frame, whatever it is, with nothing done about it.
    pub(crate) async fn next(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]);
        let mut payload = vec![0; length as usize];
        self.socket.read_exact(&mut payload).await?;
        Ok(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes(stream),
            payload,
        })
    }

    /// Says that nothing more comes, and goes on reading.
    pub(crate) async fn half_close(&mut self) -> io::Result<()> {
        self.socket.shutdown().await
    }

    pub(crate) async fn write(&mut self, script: Script) -> io::Result<()> {
        self.raw(&script.bytes).await
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes).await
    }

    /// Greets whoever asks for as long as the client is there; a request of several messages by their number.
    pub(crate) async fn greet_all(mut self, address: &Address) -> io::Result<()> {
        loop {
            let Asked { stream, names } = self.asked().await?;
            let name = match names.as_slice() {
                [name] => name.clone(),
                several => several.len().to_string(),
            };
            self.write(Script::on(stream).greets(&name, address))
                .await?;
        }
    }
}

/// Whom the whole messages of a request ask to greet.
fn names(mut request: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    while let Some((prefix, rest)) = request.split_first_chunk::<5>() {
        let [_, length @ ..] = *prefix;
        let Some((message, rest)) = rest.split_at_checked(u32::from_be_bytes(length) as usize)
        else {
            break;
        };
        names.push(HelloRequest::decode(message).expect("a request").name);
        request = rest;
    }
    names
}
