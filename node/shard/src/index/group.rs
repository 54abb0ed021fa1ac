//! A group of the index: the eight words of one cache line, filled from the front.

use super::word::{STORED_SHIFT, Word};

/// Words of a group.
pub(crate) const GROUP: usize = 8;

/// The places of a group whose words keep these bits of a hash, as a set of bits. Empty words
/// look like words with a hash of zero.
#[inline]
pub(crate) fn matches(group: &[u64; GROUP], stored: u64) -> u8 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    return matches_sse2(group, stored);
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    return matches_portable(group, stored);
}

#[cfg(any(test, not(all(target_arch = "x86_64", not(miri)))))]
fn matches_portable(group: &[u64; GROUP], stored: u64) -> u8 {
    group
        .iter()
        .enumerate()
        .fold(0, |found, (place, word)| found | u8::from(word >> STORED_SHIFT == stored) << place)
}

/// SSE2 is part of x86-64. The kept bits are in the upper half of each word, so the upper
/// halves of two pairs are gathered into one vector and compared as four numbers.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
fn matches_sse2(group: &[u64; GROUP], stored: u64) -> u8 {
    use std::arch::x86_64::{
        __m128i, _mm_castps_si128, _mm_castsi128_ps, _mm_cmpeq_epi32, _mm_loadu_si128,
        _mm_movemask_epi8, _mm_packs_epi16, _mm_packs_epi32, _mm_set1_epi32, _mm_setzero_si128,
        _mm_shuffle_ps, _mm_srli_epi32,
    };
    const SHIFT: i32 = (STORED_SHIFT - 32) as i32;
    // SAFETY: the intrinsics need SSE2, which every x86-64 has; the unaligned loads read
    // sixteen bytes each at words 0, 2, 4 and 6 of an array of eight.
    unsafe {
        let at = group.as_ptr();
        let pair =
            |place: usize| _mm_castsi128_ps(_mm_loadu_si128(at.add(place).cast::<__m128i>()));
        let wanted = _mm_set1_epi32(stored as i32);
        let upper = |one, other| {
            let halves = _mm_castps_si128(_mm_shuffle_ps::<0b11_01_11_01>(one, other));
            _mm_cmpeq_epi32(_mm_srli_epi32::<SHIFT>(halves), wanted)
        };
        let (low, high) = (upper(pair(0), pair(2)), upper(pair(4), pair(6)));
        let bytes = _mm_packs_epi16(_mm_packs_epi32(low, high), _mm_setzero_si128());
        _mm_movemask_epi8(bytes) as u8
    }
}

/// Whether no word is free.
#[inline]
pub(crate) fn is_full(group: &[u64; GROUP]) -> bool {
    !Word(group[GROUP - 1]).is_empty()
}

/// How many words are taken.
#[inline]
pub(crate) fn length(group: &[u64; GROUP]) -> usize {
    // A sum has no branch to guess wrong.
    group.iter().map(|word| usize::from(!Word(*word).is_empty())).sum()
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::heap::Handle;

    #[test]
    fn the_fast_match_equals_the_portable_one() {
        let mut random = StdRng::seed_from_u64(1);
        for _ in 0..100_000 {
            // Few values, so that several places match, and the extremes of the field.
            let stored = |random: &mut StdRng| match random.random_range(0..4) {
                0 => 0,
                1 => (1 << 21) - 1,
                2 => 5,
                _ => random.random_range(0..1 << 21),
            };
            let group = std::array::from_fn(|_| {
                let noise = random.random::<u64>() >> 21;
                stored(&mut random) << STORED_SHIFT | noise
            });
            let wanted = stored(&mut random);
            assert_eq!(matches(&group, wanted), matches_portable(&group, wanted));
        }
    }

    #[test]
    fn groups_fill_from_the_front() {
        let mut group = [0; GROUP];
        for place in 0..GROUP {
            assert_eq!(length(&group), place);
            assert!(!is_full(&group));
            group[place] = Word::new(0, Handle::new(9)).0;
        }
        assert!(is_full(&group));
    }
}
