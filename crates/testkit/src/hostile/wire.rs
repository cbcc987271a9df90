//! HTTP/2 as its frames, for a client that sends what no library would.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

// RFC 9113, section 6.
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// What a client begins with (section 3.4), before its SETTINGS.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest payload of a frame that needs no permission.
pub(super) const LONGEST: usize = 16 * 1024;

/// One frame; `payload` is at most [`LONGEST`].
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut out = length.to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A header field as HPACK's literal that no table remembers (RFC 7541, section 6.2.2).
pub(super) fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![0];
    for text in [name, value] {
        put_length(&mut out, text.len());
        out.extend(text.bytes());
    }
    out
}

/// The same as one that the dynamic table remembers (section 6.2.1).
pub(super) fn remembered(name: &str, value: &str) -> Vec<u8> {
    let mut out = literal(name, value);
    out[0] = 0x40;
    out
}

/// What a unary call of the greeter begins with.
pub(super) fn call() -> Vec<u8> {
    [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/helloworld.Greeter/SayHello"),
        (":authority", "greeter"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    .iter()
    .flat_map(|(name, value)| literal(name, value))
    .collect()
}

/// An integer with a prefix of seven bits (section 5.1).
fn put_length(out: &mut Vec<u8>, length: usize) {
    const PREFIX: usize = 127;
    let low = |n: usize| n.to_le_bytes()[0];
    if length < PREFIX {
        return out.push(low(length));
    }
    out.push(low(PREFIX));
    let mut rest = length - PREFIX;
    while rest >= 128 {
        out.push(low(rest % 128) | 128);
        rest /= 128;
    }
    out.push(low(rest));
}

/// One frame that a server has sent.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) payload: Vec<u8>,
}

impl Heard {
    /// The error code of a `RST_STREAM`, or of a GOAWAY.
    pub(super) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let code = self.payload.get(at..at + 4);
        code.and_then(|code| code.try_into().ok())
            .map_or(u32::MAX, u32::from_be_bytes)
    }
}

/// What a server says.
pub(super) struct Hearing(BufReader<OwnedReadHalf>);

impl Hearing {
    /// The next frame.
    pub(super) async fn next(&mut self) -> io::Result<Heard> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await?;
        Ok(Heard {
            kind: head[3],
            flags: head[4],
            payload,
        })
    }
}

/// A connection to a server, which has been told nothing yet.
pub(super) async fn connect(server: SocketAddr) -> io::Result<(OwnedWriteHalf, Hearing)> {
    let (read, write) = TcpStream::connect(server).await?.into_split();
    Ok((write, Hearing(BufReader::new(read))))
}

/// The same after the preface and empty SETTINGS.
pub(super) async fn begin(server: SocketAddr) -> io::Result<(OwnedWriteHalf, Hearing)> {
    let (mut write, hearing) = connect(server).await?;
    let beginning = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    write.write_all(&beginning).await?;
    Ok((write, hearing))
}

#[cfg(test)]
mod tests {
    use super::{frame, literal};

    #[test]
    fn lengths_are_as_hpack_has_them() {
        let value = "x".repeat(1337 + 127);
        // RFC 7541, appendix C.1.2 has 1337 by a prefix of five bits; what is beyond the prefix is coded alike.
        assert_eq!(literal("a", &value)[3..6], [127, 185, 10]);
        assert_eq!(literal("a", "b"), [0, 1, b'a', 1, b'b']);
    }

    #[test]
    fn a_frame_begins_with_its_length_kind_flags_and_stream() {
        assert_eq!(frame(6, 1, 3, &[7; 8])[..9], [0, 0, 8, 6, 1, 0, 0, 0, 3]);
    }
}
