//! What is sent frame by frame: calls, headers and floods.

use std::io;

use tokio::{io::AsyncWriteExt as _, net::tcp::OwnedWriteHalf};

use super::wire::{
    CONTINUATION, DATA, END_HEADERS, HEADERS, LONGEST, PING, call, frame, remembered,
};

/// Frames of one write.
const BURST: u32 = 1_000;
/// Frames of a flood that ends by itself, in [`BURST`]s.
const FLOOD: u32 = 50 * BURST;
/// By this PING the end of a flood is known.
pub(super) const MARK: &[u8; 8] = b"the end.";
/// A message that gRPC allows, and that never comes.
const PROMISED: u32 = 4 * 1024 * 1024;

pub(super) fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &call())
}

/// A call with more headers, in as many frames as they need.
pub(super) fn headers(more: &[u8]) -> Vec<u8> {
    let block = [&call(), more].concat();
    let mut out = Vec::new();
    for (place, piece) in block.chunks(LONGEST).enumerate() {
        let kind = if place == 0 { HEADERS } else { CONTINUATION };
        let last = (place + 1) * LONGEST >= block.len();
        out.extend(frame(kind, if last { END_HEADERS } else { 0 }, 1, piece));
    }
    out
}

/// A header of 4,000 bytes, and ten thousand times the first entry of the dynamic table (RFC 7541, section 6.1).
pub(super) fn bomb() -> Vec<u8> {
    const FIRST: u8 = 0b1000_0000 + 62;
    let mut out = remembered("x-bomb", &"x".repeat(4_000));
    out.extend([FIRST; 10_000]);
    out
}

/// Calls without an end, each with what follows its headers.
pub(super) async fn calls(
    write: &mut OwnedWriteHalf,
    then: impl Fn(u32) -> Vec<u8>,
) -> io::Result<()> {
    let mut streams = (1..).step_by(2);
    loop {
        let burst: Vec<_> = streams
            .by_ref()
            .take(BURST as usize)
            .flat_map(|stream| [open(stream), then(stream)].concat())
            .collect();
        write.write_all(&burst).await?;
    }
}

pub(super) async fn unfinished(write: &mut OwnedWriteHalf) -> io::Result<()> {
    // What a stream may send before the server's SETTINGS are acknowledged, which they never are here.
    const AT_FIRST: usize = 65_535;
    let streams = (1..).step_by(2).take(100);
    let promise = [&[0], PROMISED.to_be_bytes().as_slice()].concat();
    for stream in streams.clone() {
        write.write_all(&open(stream)).await?;
        write.write_all(&frame(DATA, 0, stream, &promise)).await?;
    }
    for _ in 0..AT_FIRST / LONGEST {
        for stream in streams.clone() {
            write
                .write_all(&frame(DATA, 0, stream, &[0; LONGEST]))
                .await?;
        }
    }
    write.write_all(&frame(PING, 0, 0, MARK)).await
}

pub(super) async fn for_ever(write: &mut OwnedWriteHalf, frame: &[u8]) -> io::Result<()> {
    let burst = frame.repeat(100);
    loop {
        write.write_all(&burst).await?;
    }
}

/// So many of them, and a last word.
pub(super) async fn flood(write: &mut OwnedWriteHalf, one: &[u8]) -> io::Result<()> {
    let burst = one.repeat(BURST as usize);
    for _ in 0..FLOOD / BURST {
        write.write_all(&burst).await?;
    }
    write.write_all(&frame(PING, 0, 0, MARK)).await
}
