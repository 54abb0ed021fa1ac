//! Which share of the shards' memory each core has: in proportion to the slots that it serves.
//!
//! A topology may give the cores of a node uneven numbers of slots (with 2.5 slots for each core,
//! some have 3), and slots that come or go later leave the others where they are. Shares follow in
//! steps, so that no core evicts much at once, and none grows into memory that another has yet to
//! give up.

use corelane_shard::BUDGET_BYTES_MIN;

/// A core may have so many times an even share, for which address space is reserved.
pub(crate) const TIMES_EVEN_MAX: u64 = 4;
/// A core with no slots keeps one part in so many of an even share: it may stand in for other
/// nodes, and slots may come.
const RESERVE_PARTS: u64 = 8;
/// A step takes at most one part in so many of an even share from a core.
const STEP_PARTS: u64 = 8;
/// Shares are left as they are where no core is off by one part in so many of an even share.
const TOLERATED_PARTS: u64 = 64;

/// The shares of cores that serve so many slots each, in bytes; together at most `even` for each.
pub(crate) fn by_slots(even: u64, slots: &[u16]) -> Vec<u64> {
    let cores = slots.len() as u64;
    let owned: u64 = slots.iter().copied().map(u64::from).sum();
    if owned == 0 {
        return vec![even; slots.len()];
    }
    let reserve = (even / RESERVE_PARTS).max(BUDGET_BYTES_MIN).min(even);
    // Of up to 2^48 bytes, and at most 2^14 slots: within 64 bits.
    let shared = (even - reserve) * cores;
    let share = |slots: &u16| reserve + shared * u64::from(*slots) / owned;
    slots.iter().map(|slots| share(slots).min(even * TIMES_EVEN_MAX)).collect()
}

/// The shares after one step from those in force towards those that are wanted, where the cores hold
/// so much. What cores hold and what they may hold never exceeds `even` for each together.
pub(crate) fn step(even: u64, now: &[u64], wanted: &[u64], held: &[u64]) -> Vec<u64> {
    let is_off = |(now, wanted): (&u64, &u64)| now.abs_diff(*wanted) > even / TOLERATED_PARTS;
    if !now.iter().zip(wanted).any(is_off) {
        return now.to_vec();
    }
    let lowered = |(now, wanted): (&u64, &u64)| match now.checked_sub(*wanted) {
        Some(over) => now - over.min((even / STEP_PARTS).max(1)),
        None => *now,
    };
    let mut next: Vec<u64> = now.iter().zip(wanted).map(lowered).collect();
    let taken: u64 = next.iter().zip(held).map(|(share, held)| share.max(held)).sum();
    let mut free = (even * now.len() as u64).saturating_sub(taken);
    for (share, wanted) in next.iter_mut().zip(wanted) {
        let more = wanted.saturating_sub(*share).min(free);
        *share += more;
        free -= more;
    }
    next
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const EVEN: u64 = 1 << 30;

    fn check(slots: &[u16], expected: &[f64]) {
        let shares = by_slots(EVEN, slots);
        for (share, expected) in shares.iter().zip(expected) {
            let share = *share as f64 / EVEN as f64;
            assert!((share - expected).abs() < 0.001, "{slots:?}: {shares:?}");
        }
        assert!(shares.iter().sum::<u64>() <= EVEN * slots.len() as u64);
    }

    #[test]
    fn shares_are_in_proportion_to_slots() {
        check(&[16_384], &[1.0]);
        check(&[100; 4], &[1.0; 4]);
        check(&[0; 3], &[1.0; 3]);
        check(&[2, 3, 3], &[0.125 + 0.875 * 0.75, 0.125 + 0.875 * 1.125, 0.125 + 0.875 * 1.125]);
        check(&[30, 10], &[0.125 + 0.875 * 1.5, 0.125 + 0.875 * 0.5]);
        check(&[0, 0, 5], &[0.125, 0.125, 0.125 + 0.875 * 3.0]);
        check(&[0, 0, 0, 0, 0, 0, 0, 1], &[0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 4.0]);
    }

    #[test]
    fn steps_arrive_and_never_exceed_the_whole() {
        for seed in 0..200 {
            let mut random = StdRng::seed_from_u64(seed);
            let cores = random.random_range(1..9);
            let mut slots =
                |most| -> Vec<u16> { (0..cores).map(|_| random.random_range(0..most)).collect() };
            let mut shares = by_slots(EVEN, &slots(40));
            let wanted = by_slots(EVEN, &slots(400));
            // Full, and slow to give anything up.
            let mut held = shares.clone();
            let mut steps = 0;
            loop {
                let next = step(EVEN, &shares, &wanted, &held);
                if next == shares && held == shares {
                    break;
                }
                for (share, next) in shares.iter().zip(&next) {
                    assert!(share.saturating_sub(*next) <= EVEN / STEP_PARTS, "seed {seed}");
                }
                shares = next;
                for (held, share) in held.iter_mut().zip(&shares) {
                    *held = (*share).max(held.saturating_sub(EVEN / 16));
                }
                assert!(held.iter().sum::<u64>() <= EVEN * held.len() as u64, "seed {seed}");
                steps += 1;
                assert!(steps < 1_000, "seed {seed} does not arrive");
            }
            let off = shares.iter().zip(&wanted).map(|(share, wanted)| share.abs_diff(*wanted));
            assert!(off.max().unwrap() <= EVEN / TOLERATED_PARTS, "seed {seed}");
        }
    }
}
