//! What a send carries, and how the kernel is shown a payload in several pieces.

use std::ptr;

/// Bytes to be sent, in one piece or several.
///
/// # Safety
/// The bytes neither move nor change, and stay readable, for as long as the value is neither
/// changed nor dropped; also while the value itself moves.
pub unsafe trait Payload {
    /// Bytes in all pieces.
    fn length(&self) -> usize;

    /// All of it, where that is one piece.
    fn as_slice(&self) -> Option<&[u8]>;

    /// The bytes in order.
    fn pieces(&self) -> impl Iterator<Item = &[u8]>;
}

// SAFETY: a vector's bytes are in an allocation of their own, which only changing the vector
// moves or frees.
unsafe impl Payload for Vec<u8> {
    #[inline]
    fn length(&self) -> usize {
        self.len()
    }

    #[inline]
    fn as_slice(&self) -> Option<&[u8]> {
        Some(self)
    }

    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self[..])
    }
}

/// Pieces that one operation takes; what is beyond them is sent as the rest of a short send.
/// The kernel takes 1,024 (`UIO_MAXIOV`), of which a payload never has so many.
const PIECES_MAX: usize = 128;

/// A message for the kernel: pointers to a part of a payload, which outlives it.
pub(crate) struct Gather {
    vectors: Vec<libc::iovec>,
    header: libc::msghdr,
}

// SAFETY: the pointers lead to the payload that the gather is kept with, and nothing but the
// kernel follows them.
unsafe impl Send for Gather {}

impl Gather {
    /// An empty one. It is boxed since the kernel is given its address.
    pub(crate) fn new() -> Box<Self> {
        // SAFETY: all of its fields are integers and pointers, for which zero is a value.
        let header = unsafe { std::mem::zeroed() };
        Box::new(Self { vectors: Vec::new(), header })
    }

    /// Points to at most `most` bytes of a payload after the first `skip`; how many these are.
    pub(crate) fn point(&mut self, payload: &impl Payload, mut skip: usize, most: usize) -> usize {
        self.vectors.clear();
        let mut left = most;
        for piece in payload.pieces() {
            let rest = &piece[skip.min(piece.len())..];
            skip -= piece.len() - rest.len();
            let part = &rest[..rest.len().min(left)];
            if part.is_empty() {
                continue;
            }
            let base = part.as_ptr().cast_mut().cast();
            self.vectors.push(libc::iovec { iov_base: base, iov_len: part.len() });
            left -= part.len();
            if left == 0 || self.vectors.len() == PIECES_MAX {
                break;
            }
        }
        self.header.msg_iov = self.vectors.as_mut_ptr();
        self.header.msg_iovlen = self.vectors.len();
        most - left
    }

    /// The address for the kernel.
    pub(crate) fn header(&self) -> *const libc::msghdr {
        ptr::from_ref(&self.header)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Pieces as a test likes them.
    #[derive(Debug)]
    pub(crate) struct Pieces(pub(crate) Vec<Vec<u8>>);

    // SAFETY: as for each of the vectors.
    unsafe impl Payload for Pieces {
        fn length(&self) -> usize {
            self.0.iter().map(Vec::len).sum()
        }

        fn as_slice(&self) -> Option<&[u8]> {
            None
        }

        fn pieces(&self) -> impl Iterator<Item = &[u8]> {
            self.0.iter().map(Vec::as_slice)
        }
    }

    /// What a gather points to.
    fn gathered(gather: &Gather) -> Vec<u8> {
        let vectors = &gather.vectors;
        assert_eq!(gather.header.msg_iov.cast_const(), vectors.as_ptr());
        assert_eq!(gather.header.msg_iovlen, vectors.len());
        vectors
            .iter()
            .flat_map(|vector| {
                assert_ne!(vector.iov_len, 0);
                // SAFETY: the test keeps the payload that the gather points to.
                unsafe { std::slice::from_raw_parts(vector.iov_base.cast::<u8>(), vector.iov_len) }
            })
            .copied()
            .collect()
    }

    #[test]
    fn every_part_of_every_payload_is_found() {
        let mut gather = Gather::new();
        for lengths in [&[5][..], &[0, 3, 0, 0, 4], &[1, 1, 1], &[]] {
            let mut bytes = 0..;
            let pieces = lengths.iter().map(|length| bytes.by_ref().take(*length).collect());
            let payload = Pieces(pieces.collect());
            let whole: Vec<u8> = payload.0.concat();
            for skip in 0..=whole.len() {
                for most in 0..=whole.len() - skip {
                    assert_eq!(gather.point(&payload, skip, most), most);
                    assert_eq!(gathered(&gather), whole[skip..skip + most]);
                }
            }
        }
    }

    #[test]
    fn more_pieces_than_one_operation_takes_are_left_for_the_next() {
        let payload = Pieces(vec![vec![7; 3]; PIECES_MAX + 1]);
        let mut gather = Gather::new();
        assert_eq!(gather.point(&payload, 1, payload.length() - 1), 3 * PIECES_MAX - 1);
        assert_eq!(gather.point(&payload, 3 * PIECES_MAX, 3), 3);
    }
}
