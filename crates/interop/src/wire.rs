//! What a generated client or server does not show: whether a message was compressed on the wire.

use std::sync::{Arc, Mutex, PoisonError};

use http_body::Body;
use http_body_util::BodyExt as _;
use tonic::{body, codegen::Bytes};

/// The compressed flags of a body's messages, in their order, as far as it has been read.
#[derive(Debug, Clone, Default)]
pub(crate) struct CompressedFlags(Arc<Mutex<Vec<bool>>>);

impl CompressedFlags {
    pub(crate) fn so_far(&self) -> Vec<bool> {
        self.lock().clone()
    }

    /// The same body, whose flags are noted while it is read.
    pub(crate) fn of<B>(body: B) -> (body::Body, Self)
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<tonic::codegen::StdError>,
    {
        let flags = Self::default();
        let (noted, mut prefixes) = (flags.clone(), Prefixes::default());
        let body = body.map_frame(move |frame| {
            if let Some(data) = frame.data_ref() {
                prefixes.read(data, &mut noted.lock());
            }
            frame
        });
        (body::Body::new(body), flags)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds the prefixes of length-prefixed messages: a byte that says whether the message is compressed, four of length
/// (grpc/grpc `doc/PROTOCOL-HTTP2.md`).
#[derive(Debug, Default)]
struct Prefixes {
    /// The beginning of the next one.
    prefix: Vec<u8>,
    /// What is left of the message before it.
    rest: usize,
}

impl Prefixes {
    fn read(&mut self, mut data: &[u8], flags: &mut Vec<bool>) {
        while !data.is_empty() {
            if self.rest > 0 {
                let message = self.rest.min(data.len());
                self.rest -= message;
                data = &data[message..];
                continue;
            }
            self.prefix.push(data[0]);
            data = &data[1..];
            if let Some((flag, length)) = self.prefix.split_first()
                && let Ok(length) = <[u8; 4]>::try_from(length)
            {
                flags.push(*flag != 0);
                self.rest = u32::from_be_bytes(length) as usize;
                self.prefix.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Prefixes;

    #[test]
    fn flags_are_found_however_the_messages_are_cut() {
        let messages = [
            &[1, 0, 0, 0, 3, 9, 9, 9][..],
            &[0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 1, 1],
        ]
        .concat();
        for size in 1..=messages.len() {
            let (mut prefixes, mut flags) = (Prefixes::default(), Vec::new());
            for piece in messages.chunks(size) {
                prefixes.read(piece, &mut flags);
            }
            assert_eq!(flags, [true, false, true], "in pieces of {size}");
        }
    }
}
