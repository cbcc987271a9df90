//! A TLS connection that keeps in mind why its peer ended it.

use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{
    client::TlsStream,
    rustls::pki_types::{CertificateDer, ServerName},
};

use super::TlsFailure;

/// How much of what is left is read at once.
const LAST_WORDS: usize = 1024;

/// A TLS connection. HTTP/2 tells the streams on it that it broke, and of the reason no more than a text.
pub(in super::super) struct Noting<T> {
    stream: TlsStream<T>,
    name: ServerName<'static>,
    ours: Option<CertificateDer<'static>>,
    ended: Arc<OnceLock<TlsFailure>>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Noting<T> {
    pub(super) fn new(
        stream: TlsStream<T>,
        name: ServerName<'static>,
        ours: Option<CertificateDer<'static>>,
        ended: Arc<OnceLock<TlsFailure>>,
    ) -> Self {
        Self {
            stream,
            name,
            ours,
            ended,
        }
    }

    /// Notes an error that is of TLS, and not of the network.
    fn note(&self, error: &io::Error) {
        if error.get_ref().is_some() {
            let failure = TlsFailure::of(error, &self.name, self.ours.as_ref());
            self.ended.get_or_init(|| failure);
        }
    }

    /// Who refuses us says why and closes the connection: a write may find it closed before anybody has read why. So a
    /// write that fails has failed when there is nothing left to read.
    fn hear_last_words<R>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if let Poll::Ready(Err(_)) = written {
            loop {
                let mut words = [0; LAST_WORDS];
                let mut words = ReadBuf::new(&mut words);
                match ready!(Pin::new(&mut self.stream).poll_read(context, &mut words)) {
                    Ok(()) if words.filled().is_empty() => break,
                    Ok(()) => {}
                    Err(error) => {
                        self.note(&error);
                        break;
                    }
                }
            }
        }
        written
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Noting<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Err(error)) = &read {
            self.note(error);
        }
        read
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Noting<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.hear_last_words(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.hear_last_words(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
