//! How many bytes messages have, without what frames them.

/// A message's flag for compression and its length (grpc/grpc `doc/PROTOCOL-HTTP2.md`, "Length-Prefixed-Message").
const PREFIX: usize = 5;

/// Counts the bytes of messages, as compressed as they are, in pieces of any size; gRFC A66 leaves the framing out.
#[derive(Debug, Default)]
pub(super) struct MessageBytes {
    total: u64,
    /// What is still to come of the message that is under way; of its prefix, the length as far as that has come.
    left: u32,
    /// How much has come of the prefix that is under way.
    prefix: u8,
}

impl MessageBytes {
    /// Follows the next piece; costs about its messages, not its bytes.
    pub(super) fn follow(&mut self, mut piece: &[u8]) {
        while let [first, rest @ ..] = piece {
            if self.prefix == 0 {
                if self.left > 0 {
                    piece = self.pass(piece);
                    continue;
                }
                if let Some((prefix, after)) = piece.split_first_chunk() {
                    let [_flag, length @ ..]: &[u8; PREFIX] = prefix;
                    self.left = u32::from_be_bytes(*length);
                    piece = self.pass(after);
                    continue;
                }
            } else {
                self.left = self.left << 8 | u32::from(*first);
            }
            piece = rest;
            self.prefix += 1;
            if usize::from(self.prefix) == PREFIX {
                self.prefix = 0;
            }
        }
    }

    /// What is there of the message that is under way; gives what comes after it.
    fn pass<'p>(&mut self, piece: &'p [u8]) -> &'p [u8] {
        let here = u32::try_from(piece.len()).map_or(self.left, |all| self.left.min(all));
        self.total += u64::from(here);
        self.left -= here;
        &piece[here as usize..]
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::MessageBytes;

    proptest! {
        #[test]
        fn however_messages_are_cut_their_bytes_are_counted_and_their_framing_is_not(
            lengths in prop::collection::vec(0u16..300, 0..12),
            cut in 1usize..200,
        ) {
            let mut framed = Vec::new();
            for length in &lengths {
                framed.push(1);
                framed.extend(u32::from(*length).to_be_bytes());
                framed.resize(framed.len() + usize::from(*length), 0xff);
            }
            let mut counted = MessageBytes::default();
            framed.chunks(cut).for_each(|piece| counted.follow(piece));
            let expected: u64 = lengths.iter().copied().map(u64::from).sum();
            prop_assert_eq!(counted.total(), expected);
        }
    }
}
