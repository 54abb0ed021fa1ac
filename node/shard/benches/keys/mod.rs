//! The keys of all benches, and their slots.

/// Bytes of every key.
pub(crate) const KEY_BYTES: usize = 16;

/// The routing slot of a key.
pub(crate) fn slot_of(key: &[u8]) -> u16 {
    let number = u64::from_le_bytes(key[..8].try_into().expect("eight bytes"));
    (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 50) as u16
}

/// The key with a number.
pub(crate) fn name(number: u64) -> [u8; KEY_BYTES] {
    let mut key = [b'k'; KEY_BYTES];
    key[..8].copy_from_slice(&number.to_le_bytes());
    key
}
