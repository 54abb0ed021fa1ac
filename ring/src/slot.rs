//! Slots: the 16384 parts of the key space, which move between nodes and cores as wholes.

/// How many slots there are.
pub const SLOTS: usize = 16_384;

/// One of the [`SLOTS`] parts of the key space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The first slot.
    pub const FIRST: Slot = Slot(0);
    /// The last slot.
    pub const LAST: Slot = Slot(SLOTS as u16 - 1);

    /// The slot with this number; none where there are not so many.
    #[inline]
    pub const fn new(number: u16) -> Option<Slot> {
        if (number as usize) < SLOTS { Some(Slot(number)) } else { None }
    }

    /// Its number, less than [`SLOTS`].
    #[inline]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// Its number, to index an array of [`SLOTS`].
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// All slots in order.
    pub fn all() -> impl ExactSizeIterator<Item = Slot> + DoubleEndedIterator + Clone {
        (0..SLOTS as u16).map(Slot)
    }
}

/// The slot of a key: CRC16 of its hash tag, modulo [`SLOTS`].
#[inline]
pub fn slot_of(key: &[u8]) -> Slot {
    // Most keys have no tag, so their CRC is computed while it is found out.
    let (words, tail) = key.as_chunks::<8>();
    let mut braces = 0;
    let mut crc = 0;
    for word in words {
        braces |= zero_bytes(u64::from_le_bytes(*word) ^ OPENING_BRACES);
        crc = crc16_word(crc, *word);
    }
    for byte in tail {
        braces |= u64::from(*byte == b'{');
        crc = crc16_byte(crc, *byte);
    }
    if braces != 0 {
        crc = crc16(hash_tag(key));
    }
    Slot(crc % SLOTS as u16)
}

/// The part of a key that is hashed: what stands between the first `{` and the first `}`
/// after it, where that is at least one byte; else the whole key. (Redis Cluster
/// specification, "Hash tags".)
#[inline]
pub fn hash_tag(key: &[u8]) -> &[u8] {
    match find(b'{', key) {
        None => key,
        Some(open) => tag_after(key, open),
    }
}

fn tag_after(key: &[u8], open: usize) -> &[u8] {
    let rest = &key[open + 1..];
    match find(b'}', rest) {
        None | Some(0) => key,
        Some(close) => &rest[..close],
    }
}

/// Position of the first `wanted`, eight bytes at a time: most keys hold none, and all that
/// has to be found out is that.
#[inline]
fn find(wanted: u8, bytes: &[u8]) -> Option<usize> {
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let zero = zero_bytes(u64::from_le_bytes(*word) ^ (LOW_BITS * u64::from(wanted)));
        if zero != 0 {
            return Some(index * 8 + zero.trailing_zeros() as usize / 8);
        }
    }
    let found = tail.iter().position(|byte| *byte == wanted)?;
    Some(words.len() * 8 + found)
}

const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const OPENING_BRACES: u64 = LOW_BITS * b'{' as u64;

/// The highest bit of each byte that is zero. The lowest bit set is exact; above the first zero
/// byte, borrows may set others.
#[inline]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(LOW_BITS) & !word & (LOW_BITS << 7)
}

/// `CRC_TABLES[n][byte]`: the CRC of the byte followed by `n` zero bytes.
static CRC_TABLES: [[u16; 256]; 8] = crc_tables();

const fn crc_tables() -> [[u16; 256]; 8] {
    const POLYNOMIAL: u16 = 0x1021;
    let mut tables = [[0u16; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc << 1) ^ if crc & 0x8000 != 0 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut zeros = 1;
    while zeros < 8 {
        let mut byte = 0;
        while byte < 256 {
            let crc = tables[zeros - 1][byte];
            tables[zeros][byte] = (crc << 8) ^ tables[0][(crc >> 8) as usize];
            byte += 1;
        }
        zeros += 1;
    }
    tables
}

/// CRC-16/XMODEM (polynomial 0x1021, initial value 0, nothing reflected), eight bytes a step.
#[inline]
pub fn crc16(bytes: &[u8]) -> u16 {
    let (words, tail) = bytes.as_chunks::<8>();
    let crc = words.iter().fold(0, |crc, word| crc16_word(crc, *word));
    tail.iter().fold(crc, |crc, byte| crc16_byte(crc, *byte))
}

#[inline]
fn crc16_word(crc: u16, [b0, b1, b2, b3, b4, b5, b6, b7]: [u8; 8]) -> u16 {
    let tables = &CRC_TABLES;
    let [high, low] = crc.to_be_bytes();
    tables[7][usize::from(b0 ^ high)]
        ^ tables[6][usize::from(b1 ^ low)]
        ^ tables[5][usize::from(b2)]
        ^ tables[4][usize::from(b3)]
        ^ tables[3][usize::from(b4)]
        ^ tables[2][usize::from(b5)]
        ^ tables[1][usize::from(b6)]
        ^ tables[0][usize::from(b7)]
}

#[inline]
fn crc16_byte(crc: u16, byte: u8) -> u16 {
    let [high, _] = crc.to_be_bytes();
    (crc << 8) ^ CRC_TABLES[0][usize::from(byte ^ high)]
}

/// A set of slots, 2 KiB whatever is in it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SlotSet {
    words: Box<[u64; SLOTS / 64]>,
}

impl SlotSet {
    /// No slot.
    pub fn empty() -> SlotSet {
        SlotSet { words: Box::new([0; SLOTS / 64]) }
    }

    /// Every slot.
    pub fn full() -> SlotSet {
        SlotSet { words: Box::new([u64::MAX; SLOTS / 64]) }
    }

    /// Puts a slot in.
    pub fn insert(&mut self, slot: Slot) {
        self.words[slot.index() / 64] |= 1 << (slot.index() % 64);
    }

    /// Takes a slot out.
    pub fn remove(&mut self, slot: Slot) {
        self.words[slot.index() / 64] &= !(1 << (slot.index() % 64));
    }

    /// Whether a slot is in.
    #[inline]
    pub fn contains(&self, slot: Slot) -> bool {
        self.words[slot.index() / 64] & (1 << (slot.index() % 64)) != 0
    }

    /// How many slots are in.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The slots in order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        Slot::all().filter(|slot| self.contains(*slot))
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<T: IntoIterator<Item = Slot>>(slots: T) -> SlotSet {
        let mut set = SlotSet::empty();
        for slot in slots {
            set.insert(slot);
        }
        set
    }
}

impl std::fmt::Debug for SlotSet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SlotSet({} slots)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    /// The specification read aloud, one byte at a time.
    fn reference_tag(key: &[u8]) -> &[u8] {
        for open in 0..key.len() {
            if key[open] == b'{' {
                for close in open + 1..key.len() {
                    if key[close] == b'}' {
                        return if close == open + 1 { key } else { &key[open + 1..close] };
                    }
                }
                return key;
            }
        }
        key
    }

    #[test]
    fn a_million_random_keys_agree_with_the_reference() {
        let xmodem = crc::Crc::<u16>::new(&crc::CRC_16_XMODEM);
        let mut random = StdRng::seed_from_u64(0x51_07);
        let mut buffer = [0u8; 40];
        let mut tagged = 0;
        for _ in 0..1_000_000 {
            let key = &mut buffer[..random.random_range(0..40)];
            random.fill(&mut key[..]);
            // Braces often enough that every shape of tag turns up.
            for _ in 0..random.random_range(0..5) {
                if let Some(byte) = key.get_mut(random.random_range(0..40)) {
                    *byte = if random.random() { b'{' } else { b'}' };
                }
            }
            let key = &*key;
            let tag = reference_tag(key);
            tagged += usize::from(tag.len() != key.len());
            assert_eq!(hash_tag(key), tag, "{key:?}");
            assert_eq!(slot_of(key).number(), xmodem.checksum(tag) % 16_384, "{key:?}");
        }
        assert!(tagged > 100_000, "the keys must exercise tags: {tagged}");
    }

    #[test]
    fn find_is_exact_at_every_position() {
        for length in 0..40 {
            for first in 0..length {
                for second in first..length {
                    // 0x7A and 0x7C differ from '{' in one bit or by one: what borrows spoil.
                    let mut bytes = vec![0x7A; length];
                    bytes[second] = b'{';
                    bytes[first] = b'{';
                    if first + 1 < length && first + 1 != second {
                        bytes[first + 1] = 0x7C;
                    }
                    assert_eq!(find(b'{', &bytes), Some(first));
                }
            }
            assert_eq!(find(b'{', &vec![0x7A; length]), None);
            assert_eq!(find(b'{', &vec![0xFB; length]), None);
        }
    }

    #[test]
    fn slot_numbers_end_where_slots_do() {
        assert_eq!(Slot::new(16_383), Some(Slot::LAST));
        assert_eq!(Slot::new(16_384), None);
        assert_eq!(Slot::all().len(), SLOTS);
    }

    #[test]
    fn sets_hold_what_was_put_in() {
        let mut set = SlotSet::empty();
        assert!(set.is_empty());
        let odd: SlotSet = Slot::all().filter(|slot| slot.number() % 2 == 1).collect();
        assert_eq!(odd.len(), SLOTS / 2);
        for slot in odd.iter() {
            assert!(!set.contains(slot));
            set.insert(slot);
        }
        assert_eq!(set, odd);
        set.remove(Slot::LAST);
        assert_eq!(set.len(), SLOTS / 2 - 1);
        assert_eq!(SlotSet::full().len(), SLOTS);
    }
}
