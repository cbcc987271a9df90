//! How large a message may be, seen in gRPC's framing as its bytes pass: nothing is decoded or kept.

use crate::status::{Code, Status};

/// A message's flag for compression and its length (grpc/grpc `doc/PROTOCOL-HTTP2.md`, "Length-Prefixed-Message").
const PREFIX: u8 = 5;

/// Follows the messages of one direction of a call, in pieces of any size, and refuses the first that is too large.
///
/// What counts is a message's length on the wire, after its compression (grpc/grpc `doc/service_config.md`,
/// `maxRequestMessageBytes`). The length is known from the prefix, so a message is refused before any of it has come.
#[derive(Debug, Clone)]
pub(crate) struct MessageLimit {
    /// In bytes.
    limit: u32,
    /// How much has come of the prefix that is under way.
    prefix: u8,
    /// The length, as far as the prefix has come.
    length: u32,
    /// What is still to come of the message that is under way.
    left: u32,
}

/// A message that is larger than its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge {
    size: u32,
    limit: u32,
    /// How many bytes of the piece belong to messages before it.
    pub(super) before: usize,
}

impl MessageLimit {
    /// No message may be longer than `limit` bytes.
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            limit,
            prefix: 0,
            length: 0,
            left: 0,
        }
    }

    /// Follows the next piece. Nothing is to be asked any more once a message was refused.
    pub(super) fn follow(&mut self, piece: &[u8]) -> Result<(), TooLarge> {
        let (mut at, mut before) = (0, 0);
        while let Some(byte) = piece.get(at) {
            if self.left > 0 {
                let rest = u32::try_from(piece.len() - at).unwrap_or(u32::MAX);
                let passes = self.left.min(rest);
                self.left -= passes;
                at += passes as usize;
                continue;
            }
            if self.prefix == 0 {
                before = at;
            } else {
                self.length = self.length << 8 | u32::from(*byte);
            }
            self.prefix += 1;
            at += 1;
            if self.prefix == PREFIX {
                if self.length > self.limit {
                    return Err(TooLarge {
                        size: self.length,
                        limit: self.limit,
                        before,
                    });
                }
                self.left = self.length;
                (self.prefix, self.length) = (0, 0);
            }
        }
        Ok(())
    }
}

impl TooLarge {
    pub(super) fn in_request(self) -> Status {
        let Self { size, limit, .. } = self;
        Status::new(
            Code::ResourceExhausted,
            format!(
                "a request message of {size} bytes is larger than the {limit} that maxRequestMessageBytes allows"
            ),
        )
    }

    pub(super) fn in_response(self, peer: &str) -> Status {
        let Self { size, limit, .. } = self;
        Status::new(
            Code::ResourceExhausted,
            format!(
                "{peer}: a response message of {size} bytes is larger than the {limit} that maxResponseMessageBytes \
                 allows"
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{MessageLimit, TooLarge};
    use crate::status::Code;

    fn framed(lengths: &[u16]) -> Vec<u8> {
        let message = |length: &u16| {
            let mut message = vec![0];
            message.extend(u32::from(*length).to_be_bytes());
            message.resize(message.len() + usize::from(*length), 0xff);
            message
        };
        lengths.iter().flat_map(message).collect()
    }

    #[test]
    fn a_message_as_large_as_the_limit_passes_and_a_byte_more_is_refused_with_both_sizes() {
        let passes = MessageLimit::new(10).follow(&framed(&[10, 0, 10]));
        assert_eq!(passes, Ok(()));
        let refused = MessageLimit::new(10)
            .follow(&framed(&[10, 11]))
            .expect_err("too large");
        assert_eq!(refused.before, 15, "the first message is whole");
        let status = refused.in_request();
        assert_eq!(status.code, Code::ResourceExhausted);
        assert!(status.message.contains("of 11 bytes"), "{status:?}");
        assert!(status.message.contains("the 10 that"), "{status:?}");
    }

    #[test]
    fn the_largest_length_that_a_prefix_can_tell_is_refused_from_its_prefix() {
        let refused = MessageLimit::new(u32::MAX - 1).follow(&[0, 255, 255, 255, 255]);
        assert_eq!(refused.map_err(|large| large.size), Err(u32::MAX));
        assert_eq!(
            MessageLimit::new(u32::MAX).follow(&[0, 255, 255, 255, 255]),
            Ok(())
        );
    }

    proptest! {
        #[test]
        fn however_messages_are_cut_the_first_that_is_too_large_is_refused(
            lengths in prop::collection::vec(0u16..300, 0..12),
            cuts in prop::collection::vec(1usize..200, 1..20),
            limit in 0u16..300,
        ) {
            let bytes = framed(&lengths);
            let large = lengths.iter().position(|length| *length > limit);
            // Where the message begins that is refused.
            let begins = large.map(|large| framed(&lengths[..large]).len());
            let mut limits = MessageLimit::new(limit.into());
            let (mut passed, mut refused) = (0, None);
            for cut in cuts.iter().cycle() {
                let piece = &bytes[passed..bytes.len().min(passed + cut)];
                if piece.is_empty() {
                    break;
                }
                if let Err(TooLarge { size, before, .. }) = limits.follow(piece) {
                    refused = Some((size, passed + before));
                    break;
                }
                passed += piece.len();
            }
            prop_assert_eq!(
                refused.map(|(size, _)| size),
                large.map(|large| lengths[large].into())
            );
            if let (Some((_, at)), Some(begins)) = (refused, begins) {
                prop_assert!((begins..begins + 5).contains(&at), "{} is not from {}", at, begins);
            }
        }
    }
}
