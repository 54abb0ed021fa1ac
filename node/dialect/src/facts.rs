//! What a dialect asks about the node it speaks for.

/// What a node can tell of itself. Only commands that ask for it look here, never a get or
/// a set.
pub trait Facts {
    /// Whether a token must be proved before anything else.
    fn needs_token(&self) -> bool;

    /// Whether this is the node's token; takes the same time whatever it is. False where
    /// the node has none.
    fn is_token(&self, password: &[u8]) -> bool;

    /// The number of this connection, unlike that of any other of the node.
    fn connection_number(&self) -> u64;
}
