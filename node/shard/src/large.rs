//! Large values.

/// The pieces of a large value, in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunks<'s>(pub(crate) &'s [u8]);

impl<'s> Chunks<'s> {
    pub(crate) fn bytes_left(&self) -> usize {
        self.0.len()
    }
}

impl<'s> Iterator for Chunks<'s> {
    type Item = &'s [u8];
    fn next(&mut self) -> Option<&'s [u8]> {
        let piece = std::mem::take(&mut self.0);
        (!piece.is_empty()).then_some(piece)
    }
}
