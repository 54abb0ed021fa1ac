//! A listener whose connections are bounded in number, in the size of a request, and in the
//! time that a request or an answer may take.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Connections at a time; more wait in the kernel's queue. With [`REQUEST_BYTES_MAX`] and
/// answers of some 10 KiB a core this bounds what the admin port takes to about 10 MiB.
pub(super) const CONNECTIONS_MAX: usize = 32;
/// Longest request, headers included: room for a topology that names every slot's owner.
pub(super) const REQUEST_BYTES_MAX: usize = 256 * 1024;
/// Longest time without progress of an answer: an idle or slow connection is closed then.
pub(super) const STALL_MAX: Duration = Duration::from_secs(15);
/// Pause after a failed accept (out of file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// See the module.
pub(super) struct BoundedListener {
    listener: TcpListener,
    permits: Arc<Semaphore>,
}

impl BoundedListener {
    pub(super) fn new(listener: TcpListener) -> BoundedListener {
        BoundedListener { listener, permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

impl axum::serve::Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedStream, SocketAddr) {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => return (BoundedStream::new(stream, permit), address),
                Err(error) => {
                    tracing::warn!("the admin port could not accept: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that breaks when it passes a limit. Every byte of an answer that goes out
/// sets size and time back to zero.
pub(super) struct BoundedStream {
    stream: TcpStream,
    received: usize,
    stall: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl BoundedStream {
    fn new(stream: TcpStream, permit: OwnedSemaphorePermit) -> BoundedStream {
        BoundedStream { stream, received: 0, stall: Box::pin(sleep(STALL_MAX)), _permit: permit }
    }

    fn check_stall(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.stall.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }

    fn progressed(&mut self) {
        self.received = 0;
        self.stall.as_mut().set(sleep_until(Instant::now() + STALL_MAX));
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_stall(context)?;
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.received += buffer.filled().len() - before;
        if self.received > REQUEST_BYTES_MAX {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        polled
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_stall(context)?;
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if matches!(polled, Poll::Ready(Ok(_))) {
            self.progressed();
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// The time is virtual: it jumps ahead whenever nothing but a timer can happen.
    #[tokio::test(start_paused = true)]
    async fn a_connection_without_progress_breaks_after_a_while() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut listener = BoundedListener::new(listener);
        let address = axum::serve::Listener::local_addr(&listener).unwrap();
        let mut client = std::net::TcpStream::connect(address).unwrap();
        let (mut stream, _) = axum::serve::Listener::accept(&mut listener).await;

        client.write_all(b"GET /half").unwrap();
        let start = Instant::now();
        let mut buffer = [0; 64];
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 9);
        tokio::time::advance(STALL_MAX / 2).await;
        // What goes out counts as progress.
        stream.write_all(b"answer").await.unwrap();
        let error = stream.read(&mut buffer).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= STALL_MAX + STALL_MAX / 2);
    }
}
