//! The event descriptor, with which other threads wake one that waits in the kernel.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// A new event descriptor (`eventfd(2)`), counting from zero, non-blocking.
///
/// # Errors
/// The process is out of file descriptors, or the kernel out of memory.
pub fn event_descriptor() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointers.
    let raw = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}
