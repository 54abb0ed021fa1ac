//! The system calls that neither std nor a crate in use offers safely, and what the ring has
//! to be promised of the packets that it sends.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use corelane_engine::Packet;
use corelane_uring::Payload;

/// A packet on its way through the ring.
#[derive(Debug)]
pub(crate) struct Sent(pub(crate) Packet);

// SAFETY: by its documentation, the bytes of a packet stay where they are until it is changed
// or dropped, those that it leases from a shard among them, and also while it moves.
#[allow(unsafe_code)]
unsafe impl Payload for Sent {
    #[inline]
    fn length(&self) -> usize {
        self.0.len()
    }

    #[inline]
    fn as_slice(&self) -> Option<&[u8]> {
        self.0.as_slice()
    }

    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.0.pieces()
    }
}

/// Raises this process's soft limit of open files to its hard limit, and returns the hard
/// limit. Raising is always allowed (getrlimit(2)).
///
/// # Errors
/// The kernel refused one of the two calls.
#[allow(unsafe_code)]
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live, writable rlimit, which the kernel fills.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is a live rlimit, which the kernel only reads.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_max)
}

/// How often the calling thread has gone to sleep of itself: what `ru_nvcsw` of getrusage(2)
/// counts. Being put aside for another thread is none of these.
#[allow(unsafe_code)]
pub fn sleeps_of_this_thread() -> u64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: `usage` is live and writable; the kernel fills all of it when it returns 0.
    let usage = unsafe {
        let result = libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        assert_eq!(result, 0, "getrusage(2) fails for wrong arguments only");
        usage.assume_init()
    };
    usage.ru_nvcsw as u64
}

/// How many bytes of what was sent on a TCP connection its peer has acknowledged in all, since
/// it came to be; `None` for a socket that is none. It is `tcpi_bytes_acked` of tcp(7)'s
/// `TCP_INFO`, there since Linux 4.1.
#[allow(unsafe_code)]
pub fn bytes_acknowledged(socket: BorrowedFd<'_>) -> Option<u64> {
    // struct tcp_info of linux/tcp.h; libc's ends before this field.
    const BYTES_ACKED: std::ops::Range<usize> = 120..128;
    let mut info = [0_u8; BYTES_ACKED.end];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info` and the new length to
    // `length`; both are live and writable.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let whole = result == 0 && length as usize == info.len();
    whole.then(|| u64::from_ne_bytes(info[BYTES_ACKED].try_into().expect("eight bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn acknowledged_bytes_are_those_that_the_peer_has_got() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let before = bytes_acknowledged(server.as_fd()).unwrap();
        server.write_all(&[7; 1000]).unwrap();
        client.read_exact(&mut [0; 1000]).unwrap();
        // The answer acknowledges.
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0; 1]).unwrap();
        assert_eq!(bytes_acknowledged(server.as_fd()).unwrap() - before, 1000);
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(bytes_acknowledged(one.as_fd()), None);
    }
    use crate::config::Host;

    #[test]
    fn blocking_is_sleeping() {
        let (send, receive) = std::sync::mpsc::sync_channel::<()>(0);
        let thread = std::thread::spawn(move || {
            let before = sleeps_of_this_thread();
            while receive.recv().is_ok() {}
            sleeps_of_this_thread() - before
        });
        // Every handing over lets the other one wait, so that it blocks at some time.
        for _ in 0..1_000 {
            send.send(()).unwrap();
        }
        drop(send);
        assert!(thread.join().unwrap() > 0);
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let hard = raise_open_files().unwrap();
        let limits = Host::read().open_files;
        assert_eq!((limits.soft, limits.hard), (hard, hard));
    }
}
