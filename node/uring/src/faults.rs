//! Faults that tests put between the ring and the kernel.

/// Asked at every place where the kernel could refuse. The default answers are "it does
/// not", and [`NoFaults`] costs nothing.
pub trait Faults {
    /// Whether the submission queue is to count as full now.
    #[inline]
    fn queue_full(&mut self) -> bool {
        false
    }

    /// How many bytes of the `length` left are sent at once, one at least.
    #[inline]
    fn send_length(&mut self, length: usize) -> usize {
        length
    }

    /// An error number that the next system call is to fail with, without being made.
    #[inline]
    fn enter_error(&mut self) -> Option<i32> {
        None
    }
}

/// The kernel as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFaults;

impl Faults for NoFaults {}
