//! Counts the requests that a client really sends, by looking at the frames that it writes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use corelane_client::{Connecting, Connector, Stream};
use corelane_protocol::limits::HEADER_BYTES;
use corelane_protocol::wire::Opcode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// Requests sent, by kind.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub(crate) gets: AtomicU64,
    pub(crate) sets: AtomicU64,
}

/// Connects to UNIX sockets, and counts what is sent over them.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    pub(crate) sent: Arc<Sent>,
}

impl Connector for Counting {
    fn connect(&self, address: &str) -> Connecting {
        let path = address.strip_prefix("unix:").expect("nodes listen on UNIX sockets").to_owned();
        let sent = Arc::clone(&self.sent);
        Box::pin(async move {
            let stream = UnixStream::connect(path).await?;
            let (header, body_bytes) = (Vec::new(), 0);
            Ok(Box::new(Counted { stream, sent, header, body_bytes }) as Box<dyn Stream>)
        })
    }
}

struct Counted {
    stream: UnixStream,
    sent: Arc<Sent>,
    /// What was written of the next frame's header.
    header: Vec<u8>,
    /// What is left to be written of the last frame's body.
    body_bytes: usize,
}

impl Counted {
    fn wrote(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let body = self.body_bytes.min(bytes.len());
            self.body_bytes -= body;
            bytes = &bytes[body..];
            let header = (HEADER_BYTES - self.header.len()).min(bytes.len());
            self.header.extend_from_slice(&bytes[..header]);
            bytes = &bytes[header..];
            if let Some(header) = self.header.first_chunk::<HEADER_BYTES>() {
                let length = [header[8], header[9], header[10], header[11]];
                self.body_bytes = u32::from_le_bytes(length) as usize;
                match Opcode::from_byte(header[1]) {
                    Some(Opcode::Get) => drop(self.sent.gets.fetch_add(1, Ordering::Relaxed)),
                    Some(Opcode::Set) => drop(self.sent.sets.fetch_add(1, Ordering::Relaxed)),
                    _ => {}
                }
                self.header.clear();
            }
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(written)) = written {
            self.wrote(&bytes[..written]);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
