//! A ring of virtual nodes without bounds, as consistent hashing is mostly built (Karger et
//! al. 1997): the floor that placement is compared with.

use corelane_ring::{SLOTS, Slot};

/// FNV-1a of 64 bits, and a finalizer, without which names that differ at the end lie close.
fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    let mut z = bytes.fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    z = (z ^ (z >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    z ^ (z >> 33)
}

/// The owner of every slot: the node of the first point at or after the slot's.
pub(super) fn owners(names: &[String], virtual_nodes: usize) -> Vec<u16> {
    let point =
        |name: &String, number: usize| hash(name.bytes().chain((number as u64).to_le_bytes()));
    let mut points: Vec<(u64, u16)> = (0..)
        .zip(names)
        .flat_map(|(node, name)| (0..virtual_nodes).map(move |number| (point(name, number), node)))
        .collect();
    points.sort_unstable();
    Slot::all()
        .map(|slot| {
            let at = u64::from(slot.number()) * (u64::MAX / SLOTS as u64);
            let next = points.partition_point(|(point, _)| *point < at);
            points[next % points.len()].1
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_of_one_owns_everything() {
        assert_eq!(owners(&["alone".to_owned()], 3), vec![0; SLOTS]);
    }
}
