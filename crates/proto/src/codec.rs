//! How messages are encoded and decoded.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// In bytes, what a call takes for what it sends before it sends anything, and as much for what it receives. Nearly all messages of
/// these contracts are smaller; for one that is not, the buffer grows. tonic takes 8 KiB, which is more than allocators keep at hand.
const BUFFER: usize = 1024;
/// In bytes, of how much tonic makes one piece, where more messages are there: its own default.
const PIECE: usize = 32 * 1024;

/// prost's encoding with buffers for small messages.
#[derive(Debug)]
pub struct Small<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Small<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for Small<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER, PIECE))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER, PIECE))
    }
}
