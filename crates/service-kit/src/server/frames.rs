//! The frames of a connection, as far as they tell whether its peer only makes work.
//!
//! Some frames ask for nothing that anybody waits for, and as many as a peer likes may be sent of them: PING, SETTINGS, PRIORITY,
//! `WINDOW_UPDATE`, DATA without data, `RST_STREAM` of what has ended, and whatever HTTP/2 does not know. Each is cheap, and h2 takes
//! them as fast as they come. Honest peers have a reason for each: they keep a connection alive, they give up a call that they have
//! made, or they answer what we have sent, a few frames for each of ours, and more when it is long.

use std::time::Duration;

use tokio::time::Instant;

/// A frame begins with its length in three bytes, its kind, its flags, and its stream in four (RFC 9113, section 4.1).
const HEAD: usize = 9;
/// What a client sends before its first frame (section 3.4).
const PREFACE: usize = 24;
/// So many frames are for one of ours, however short: windows of stream and connection, and a PING that measures them, and one more.
const FOR_ONE: i64 = 4;
/// And one more for so many bytes of DATA: there are clients that tell of both windows for each 4 KiB that they have read.
const FOR_BYTES: usize = 2 * 1024;
/// What ours are reason for and has not come is kept, up to so many times as many frames as may come without a reason: who reads slowly
/// tells of windows late, and all at once.
const KEPT: i64 = 4;
/// After so long, what was too little to matter is forgotten.
const WHILE: Duration = Duration::from_secs(10);

// RFC 9113, section 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;

/// Counts the frames that ask for nothing.
#[derive(Debug)]
pub(super) struct Frames {
    read: Heads,
    written: Heads,
    most: i64,
    /// Those without a reason; below zero, there is reason for more.
    idle: i64,
    /// Calls that were made and have not been given up.
    calls: u64,
    since: Instant,
}

impl Frames {
    /// Of a connection that is served, and on which nothing was said yet: there may be `most` of them in ten seconds, beside
    /// those that there is a reason for.
    pub(super) fn new(most: u32) -> Self {
        Self {
            read: Heads::after(PREFACE),
            written: Heads::after(0),
            most: most.into(),
            idle: 0,
            calls: 0,
            since: Instant::now(),
        }
    }

    /// That was read; whether it is still no flood.
    pub(super) fn read(&mut self, bytes: &[u8]) -> bool {
        let before = self.idle;
        let (idle, calls) = (&mut self.idle, &mut self.calls);
        self.read.each(bytes, |head| match head.kind {
            HEADERS => *calls += 1,
            RST_STREAM if *calls > 0 => *calls -= 1,
            _ => *idle += i64::from(head.asks_for_nothing()),
        });
        // The clock is looked at only for frames without a reason, of which an honest peer sends one in a while.
        if self.idle > before.max(0) && self.since.elapsed() >= WHILE {
            self.since = Instant::now();
            self.idle -= before.max(0);
        }
        self.idle <= self.most
    }

    /// That was written.
    pub(super) fn written(&mut self, bytes: &[u8]) {
        let idle = &mut self.idle;
        self.written.each(bytes, |head| match head.kind {
            HEADERS => *idle -= FOR_ONE,
            DATA => *idle -= FOR_ONE + i64::try_from(head.length / FOR_BYTES).unwrap_or(0),
            _ => {}
        });
        self.idle = self.idle.max(-KEPT * self.most);
    }
}

#[derive(Debug, Clone, Copy)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
}

impl Head {
    fn of([a, b, c, kind, flags, ..]: [u8; HEAD]) -> Self {
        Self {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
        }
    }

    /// Calls have limits of their own, and so have headers.
    fn asks_for_nothing(self) -> bool {
        match self.kind {
            DATA => self.length == 0 && self.flags & END_STREAM == 0,
            HEADERS | CONTINUATION => false,
            _ => true,
        }
    }
}

/// Finds the heads of frames in what goes one way, however that is cut.
#[derive(Debug)]
struct Heads {
    /// So many bytes are no head.
    skipped: usize,
    begun: [u8; HEAD],
    known: usize,
}

impl Heads {
    fn after(preface: usize) -> Self {
        Self {
            skipped: preface,
            begun: [0; HEAD],
            known: 0,
        }
    }

    fn each(&mut self, mut bytes: &[u8], mut head: impl FnMut(Head)) {
        loop {
            let skipped = self.skipped.min(bytes.len());
            self.skipped -= skipped;
            bytes = &bytes[skipped..];
            let part = bytes.len().min(HEAD - self.known);
            self.begun[self.known..][..part].copy_from_slice(&bytes[..part]);
            bytes = &bytes[part..];
            self.known += part;
            if self.known < HEAD {
                return;
            }
            self.known = 0;
            let found = Head::of(self.begun);
            self.skipped = found.length;
            head(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::{DATA, Duration, END_STREAM, Frames, HEADERS, PREFACE, RST_STREAM, WHILE};

    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;
    const MOST: u32 = 100;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.extend(vec![PING; length.into()]);
        frame
    }

    fn begun() -> Frames {
        let mut frames = Frames::new(MOST);
        assert!(frames.read(&[b'P'; PREFACE]));
        frames
    }

    /// How many of them are taken, up to ten times as many as may be.
    fn taken(frames: &mut Frames, frame: &[u8]) -> usize {
        (0..10 * MOST).take_while(|_| frames.read(frame)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_frames_that_ask_for_nothing_are_taken_and_no_more() {
        for kind in [PING, SETTINGS, 2, 7, WINDOW_UPDATE, RST_STREAM, 77] {
            assert_eq!(taken(&mut begun(), &frame(kind, 0, 8)), 100, "{kind}");
        }
        assert_eq!(taken(&mut begun(), &frame(DATA, 0, 0)), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_may_be_as_many_as_they_like() {
        for frame in [
            frame(HEADERS, 0, 30),
            frame(DATA, 0, 1),
            frame(DATA, END_STREAM, 0),
            [frame(HEADERS, 0, 30), frame(RST_STREAM, 0, 4)].concat(),
        ] {
            assert_eq!(taken(&mut begun(), &frame), 1_000);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_call_may_be_given_up_once_however_late() {
        let mut frames = begun();
        assert_eq!(taken(&mut frames, &frame(HEADERS, 0, 30)), 1_000);
        let given_up = frame(RST_STREAM, 0, 4);
        assert_eq!(taken(&mut frames, &given_up), 1_000);
        assert_eq!(taken(&mut frames, &given_up), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_kept_alive_for_as_long_as_one_likes() {
        let mut frames = begun();
        for _ in 0..10 * MOST {
            assert!(frames.read(&frame(PING, 0, 8)));
            advance(WHILE / MOST + Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_answers_a_response_is_no_flood() {
        let mut frames = begun();
        let answer = [frame(WINDOW_UPDATE, 0, 4), frame(PING, 0, 8)].concat();
        for _ in 0..10 * MOST {
            assert!(frames.read(&answer));
            frames.written(&frame(DATA, 0, 100));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn windows_may_be_told_of_for_each_4_kib_that_were_read() {
        let long = [0, 64, 0, DATA, 0, 0, 0, 0, 1].into_iter();
        let long: Vec<_> = long.chain([0; 16 * 1024]).collect();
        let mut frames = begun();
        // Stream and connection, and a PING.
        let answer = [frame(WINDOW_UPDATE, 0, 4).repeat(8), frame(PING, 0, 8)].concat();
        for _ in 0..10 * MOST {
            frames.written(&long);
            assert!(frames.read(&answer));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_is_a_reason_for_late_answers_but_not_for_any_number() {
        let mut frames = begun();
        for _ in 0..10 * MOST {
            frames.written(&frame(DATA, 0, 100));
        }
        advance(10 * WHILE).await;
        assert_eq!(taken(&mut frames, &frame(WINDOW_UPDATE, 0, 4)), 500);
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_long_ago_leaves_room_for_all_that_may_come() {
        let mut frames = begun();
        for _ in 0..90 {
            assert!(frames.read(&frame(PING, 0, 8)));
        }
        advance(WHILE).await;
        assert_eq!(taken(&mut frames, &frame(PING, 0, 8)), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_to_a_flood_are_no_reason_for_it() {
        let mut frames = begun();
        let ping = frame(PING, 0, 8);
        let answered = (0..10 * MOST).take_while(|_| {
            frames.written(&frame(PING, 1, 8));
            frames.read(&ping)
        });
        assert_eq!(answered.count(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn frames_are_found_however_they_are_cut() {
        // Their payload looks like heads of frames that would be counted.
        let calls = [frame(HEADERS, 0, 200), frame(DATA, 0, 90)].concat();
        let said = [calls.repeat(10), frame(PING, 0, 8).repeat(7)].concat();
        for piece in 1..=said.len() {
            let mut frames = begun();
            assert!(said.chunks(piece).all(|part| frames.read(part)));
            assert_eq!(frames.idle, 7, "in pieces of {piece}");
        }
    }
}
