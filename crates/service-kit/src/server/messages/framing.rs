//! gRPC's framing of messages in a body: a flag, the length in four bytes, and as many bytes.

const HEAD: usize = 5;

/// Where in it a body is.
#[derive(Debug, Default)]
pub(super) struct Framing {
    head: [u8; HEAD],
    /// So much of the head has come.
    known: usize,
    /// Once it is whole: how much of the message has come, and how much has not.
    come: usize,
    missing: usize,
}

impl Framing {
    /// The body goes on with `data`. How much has come of the message that is the longest, among those that are in it.
    pub(super) fn longest(&mut self, mut data: &[u8]) -> usize {
        let mut longest = 0;
        while !data.is_empty() {
            if self.known < HEAD {
                let part = take(&mut data, HEAD - self.known);
                self.head[self.known..][..part.len()].copy_from_slice(part);
                self.known += part.len();
                if self.known < HEAD {
                    break;
                }
                let [_, length @ ..] = self.head;
                self.missing = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                self.come = 0;
            }
            let part = take(&mut data, self.missing).len();
            self.come += part;
            self.missing -= part;
            longest = longest.max(self.come);
            if self.missing == 0 {
                self.known = 0;
            }
        }
        longest
    }
}

/// The beginning of `data`, `most` bytes at most, without which it goes on.
fn take<'a>(data: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (part, rest) = data.split_at(most.min(data.len()));
    *data = rest;
    part
}

#[cfg(test)]
mod tests {
    use super::Framing;

    fn message(length: usize) -> Vec<u8> {
        let head = u32::try_from(length).expect("short").to_be_bytes();
        [&[0], head.as_slice(), &vec![7; length]].concat()
    }

    #[test]
    fn a_body_is_followed_however_it_is_cut() {
        let lengths = [3, 0, 300, 0, 0, 7];
        let body = lengths.map(message).concat();
        for piece in 1..=body.len() {
            let mut framing = Framing::default();
            let longest = body.chunks(piece).map(|data| framing.longest(data)).max();
            assert_eq!(longest, Some(300), "in pieces of {piece}");
            assert_eq!(framing.known, 0, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_message_counts_for_what_has_come_of_it_and_not_for_what_is_promised() {
        let mut framing = Framing::default();
        let body = message(1_000);
        assert_eq!(framing.longest(&body[..5]), 0);
        assert_eq!(framing.longest(&body[5..105]), 100);
        assert_eq!(framing.longest(&body[105..405]), 400);
        assert_eq!(
            framing.longest(&[&body[405..], &body[..55]].concat()),
            1_000
        );
        assert_eq!(framing.longest(&[7; 10]), 60);
    }
}
