//! Replies on their way out: bytes of the engine's own, and between them values that are
//! leased from a shard and never copied.
//!
//! ```text
//! execute ─► Leases (value after so many bytes of `output`) ─► connection
//!                                                                 │ at most PACKET_LEASED_BYTES a send
//!                                                                 ▼
//!                                                              Packet ─► Output::send
//! ```

use std::collections::VecDeque;

use corelane_shard::{Lease, LeasedPiece};

use crate::limits::PACKET_LEASED_BYTES;

/// What one send carries. Its bytes neither move nor change until it is changed or dropped,
/// also while the packet itself moves, so the kernel may read them in place. Dropping it ends
/// the leases in it.
#[derive(Debug, Default)]
pub struct Packet {
    bytes: Vec<u8>,
    /// In ascending order of where they stand.
    leased: Vec<Inserted>,
}

/// A leased piece, after so many of the packet's own bytes.
#[derive(Debug)]
struct Inserted {
    after: usize,
    piece: LeasedPiece,
}

impl From<Vec<u8>> for Packet {
    fn from(bytes: Vec<u8>) -> Packet {
        Packet { bytes, leased: Vec::new() }
    }
}

impl Packet {
    /// Bytes to send.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.leased.iter().map(|l| l.piece.bytes().len()).sum::<usize>()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.leased.is_empty()
    }

    /// All of it, where that is one run of bytes of the engine's own.
    pub fn as_slice(&self) -> Option<&[u8]> {
        self.leased.is_empty().then_some(&self.bytes)
    }

    /// The bytes in order, in pieces of which none is empty.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.leased.iter().map(|l| l.after));
        let ends = self.leased.iter().map(|l| l.after).chain(std::iter::once(self.bytes.len()));
        let leased = self.leased.iter().map(|l| l.piece.bytes()).chain(std::iter::once(&[][..]));
        starts
            .zip(ends)
            .zip(leased)
            .flat_map(|((start, end), leased)| [&self.bytes[start..end], leased])
            .filter(|piece| !piece.is_empty())
    }

    /// Gives the engine's own bytes back and ends the leases.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Leased values that belong after certain bytes of an output buffer, which is kept elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    /// In ascending order; for each, after how many bytes of the buffer.
    queue: VecDeque<(usize, Lease)>,
    /// Bytes of all of them.
    bytes: usize,
}

impl Leases {
    /// Bytes of the values.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a value after the end of the buffer as it is.
    pub(crate) fn push(&mut self, buffer_length: usize, lease: Lease) {
        debug_assert!(self.queue.back().is_none_or(|(after, _)| *after <= buffer_length));
        self.bytes += lease.bytes_left();
        self.queue.push_back((buffer_length, lease));
    }

    /// Ends those of a buffer that is cut to this length, which is at the end of a frame.
    pub(crate) fn truncate(&mut self, buffer_length: usize) {
        while let Some((_, lease)) = self.queue.pop_back_if(|(after, _)| *after > buffer_length) {
            self.bytes -= lease.bytes_left();
        }
    }

    /// Takes over the leases of a buffer that is appended to one of this length.
    pub(crate) fn append(&mut self, buffer_length: usize, other: &mut Leases) {
        for (after, lease) in other.queue.drain(..) {
            self.queue.push_back((buffer_length + after, lease));
        }
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Takes the next packet from the front of a buffer and its leases.
    pub(crate) fn packet(&mut self, buffer: &mut Vec<u8>) -> Packet {
        let mut packet = Packet::default();
        let mut room = PACKET_LEASED_BYTES;
        while let Some((after, lease)) = self.queue.front_mut() {
            while room > 0
                && let Some(piece) = lease.take()
            {
                let length = piece.bytes().len();
                room = room.saturating_sub(length);
                self.bytes -= length;
                packet.leased.push(Inserted { after: *after, piece });
            }
            if lease.bytes_left() > 0 {
                let after = *after;
                let rest = buffer.split_off(after);
                packet.bytes = std::mem::replace(buffer, rest);
                self.queue.iter_mut().for_each(|(at, _)| *at -= after);
                return packet;
            }
            self.queue.pop_front();
        }
        packet.bytes = std::mem::take(buffer);
        packet
    }
}

/// Large values of replies on their way to another core, which may drop them there.
#[derive(Debug)]
pub struct MailedLeases(pub(crate) Leases);

#[cfg(test)]
mod tests {
    use super::*;
    use corelane_shard::{Key, Millis, Shard, ShardConfig, Write};

    const NOW: Millis = Millis(0);

    fn shard() -> Shard {
        Shard::new(ShardConfig::new(64 << 20, |_| 0)).expect("memory")
    }

    fn value(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    /// Puts values of these lengths into replies, and takes those in bounded packets.
    fn check(lengths: &[usize]) {
        let mut shard = shard();
        let (mut buffer, mut leases, mut expected) = (Vec::new(), Leases::default(), Vec::new());
        for (number, length) in lengths.iter().enumerate() {
            let name = [number as u8];
            let key: Key<'_> = shard.key(0, 0, &name);
            let value = value(*length);
            shard.set(&key, Write::value(&value), NOW, &mut ()).expect("room");
            buffer.extend_from_slice(b"head");
            expected.extend_from_slice(b"head");
            let entry = shard.get(&key, NOW).expect("just set");
            match entry.value.lease() {
                Some(lease) => leases.push(buffer.len(), lease),
                None => buffer.extend_from_slice(&value),
            }
            expected.extend_from_slice(&value);
            shard.remove(&key, NOW, &mut ());
        }
        let copied_bytes = buffer.len();
        let mut sent = Vec::new();
        while !buffer.is_empty() || leases.bytes() > 0 {
            let packet = leases.packet(&mut buffer);
            let _ = shard.tick(NOW, &mut ());
            assert_eq!(packet.pieces().map(<[u8]>::len).sum::<usize>(), packet.len());
            assert!(packet.len() < copied_bytes + PACKET_LEASED_BYTES + (64 << 10));
            assert!(!packet.is_empty());
            packet.pieces().for_each(|piece| sent.extend_from_slice(piece));
        }
        assert!(sent == expected, "{lengths:?}");
    }

    #[test]
    fn packets_carry_replies_in_order() {
        check(&[]);
        check(&[10]);
        check(&[100_000]);
        check(&[100_000, 10, 200_000, 300_000, 0]);
        check(&[3 << 20, 10, 2 << 20, 1]);
        check(&[PACKET_LEASED_BYTES, PACKET_LEASED_BYTES, 5]);
    }
}
