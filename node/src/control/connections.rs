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

/// What a listener's connections may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// How the port is called in the log.
    pub(crate) name: &'static str,
    /// Connections at a time; more wait in the kernel's queue.
    pub(crate) connections_max: usize,
    /// Longest request in bytes, headers included.
    pub(crate) request_bytes_max: usize,
}

/// Those of the admin port. With answers of some 10 KiB a core they bound what it takes to about
/// 10 MiB; a request may be a topology that names every slot's owner.
pub(super) const ADMIN: Bounds =
    Bounds { name: "admin", connections_max: 32, request_bytes_max: 256 << 10 };
/// Longest time without progress of an answer: an idle or slow connection is closed then.
pub(super) const STALL_MAX: Duration = Duration::from_secs(15);
/// Pause after a failed accept (out of file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// See the module.
pub(crate) struct BoundedListener {
    listener: TcpListener,
    bounds: Bounds,
    permits: Arc<Semaphore>,
}

impl BoundedListener {
    pub(crate) fn new(listener: TcpListener, bounds: Bounds) -> BoundedListener {
        let permits = Arc::new(Semaphore::new(bounds.connections_max));
        BoundedListener { listener, bounds, permits }
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
                Ok((stream, address)) => {
                    let request_bytes_max = self.bounds.request_bytes_max;
                    return (BoundedStream::new(stream, request_bytes_max, permit), address);
                }
                Err(error) => {
                    tracing::warn!("the {} port could not accept: {error}", self.bounds.name);
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
pub(crate) struct BoundedStream {
    stream: TcpStream,
    request_bytes_max: usize,
    received: usize,
    stall: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl BoundedStream {
    fn new(
        stream: TcpStream,
        request_bytes_max: usize,
        permit: OwnedSemaphorePermit,
    ) -> BoundedStream {
        let stall = Box::pin(sleep(STALL_MAX));
        BoundedStream { stream, request_bytes_max, received: 0, stall, _permit: permit }
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
        if self.received > self.request_bytes_max {
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
        let mut listener = BoundedListener::new(listener, ADMIN);
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
