//! Which core of one node answers for a slot.

use crate::identity::Core;
use crate::slot::{SLOTS, Slot, SlotSet};

/// Most cores of a node: one for each slot.
pub const CORES_MAX: u16 = SLOTS as u16;

/// In a list of ranges, the core of slots that the node does not own.
pub const NOT_OWNED: u16 = u16::MAX;

/// Set in an entry whose slot the node does not own.
const FOREIGN: u16 = 0x8000;
const _: () = assert!(CORES_MAX < FOREIGN);

/// A table from slot to core, for one node.
///
/// Every slot has a core, also one that the node does not own: some core has to answer for
/// it that it lives elsewhere. Such a slot is at the core that an even spread of all slots
/// would give it.
#[derive(Clone, PartialEq, Eq)]
pub struct CoreMap {
    /// The core, and [`FOREIGN`] or not.
    entries: Box<[u16; SLOTS]>,
    cores: u16,
    /// How many slots the node does not own.
    foreign: u16,
}

/// Why there is no such map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoreMapError {
    /// Not 1 to [`CORES_MAX`] cores.
    #[error("a node has 1 to 16384 cores, not {cores}")]
    Cores {
        /// How many were asked for.
        cores: u16,
    },
    /// The first range does not begin at slot 0, or there is none.
    #[error("the ranges do not begin at slot 0")]
    Start,
    /// A range begins where no slot is, or not after the one before it.
    #[error("the range at slot {first} is out of order")]
    Order {
        /// Where it begins.
        first: u16,
    },
    /// A range names a core that the node does not have.
    #[error("the range at slot {first} names core {core}, which does not exist")]
    NoSuchCore {
        /// Where it begins.
        first: u16,
        /// What it names.
        core: u16,
    },
}

impl CoreMap {
    /// All slots, owned, in one contiguous range a core; their sizes differ by at most one.
    /// This is how a node without a topology spreads them.
    ///
    /// # Errors
    /// [`CoreMapError::Cores`].
    pub fn even(cores: u16) -> Result<CoreMap, CoreMapError> {
        CoreMap::by_rank(cores, &SlotSet::full())
    }

    /// The owned slots, by their rank among each other, in one run a core; their sizes differ
    /// by at most one.
    ///
    /// # Errors
    /// [`CoreMapError::Cores`].
    pub fn by_rank(cores: u16, owned: &SlotSet) -> Result<CoreMap, CoreMapError> {
        let mut map = CoreMap::without_slots(cores)?;
        let count = owned.len();
        for (rank, slot) in owned.iter().enumerate() {
            map.adopt(slot, Core(share(rank, count, cores)));
        }
        Ok(map)
    }

    /// The map after the set of owned slots has changed: slots that stay with the node stay
    /// where they are, and each new one, in order, goes to the core with the fewest slots (the
    /// first of them). Balance comes second, since moving a slot between cores costs its data.
    pub fn reassign(&self, owned: &SlotSet) -> CoreMap {
        let mut map = CoreMap::without_slots(self.cores).expect("this map has as many cores");
        let mut load = vec![0u32; usize::from(self.cores)];
        for slot in owned.iter().filter(|slot| self.owns(*slot)) {
            map.adopt(slot, self.core_of(slot));
            load[self.core_of(slot).index()] += 1;
        }
        for slot in owned.iter().filter(|slot| !self.owns(*slot)) {
            let least = (0..load.len()).min_by_key(|core| load[*core]).expect("there is a core");
            map.adopt(slot, Core(least as u16));
            load[least] += 1;
        }
        map
    }

    /// Every slot foreign, at the core of the even spread.
    fn without_slots(cores: u16) -> Result<CoreMap, CoreMapError> {
        if cores == 0 || cores > CORES_MAX {
            return Err(CoreMapError::Cores { cores });
        }
        let entry = |slot| share(slot, SLOTS, cores) | FOREIGN;
        let entries = Box::new(std::array::from_fn(entry));
        Ok(CoreMap { entries, cores, foreign: SLOTS as u16 })
    }

    /// The core that answers for a slot.
    #[inline]
    pub fn core_of(&self, slot: Slot) -> Core {
        if self.cores == 1 {
            // The table would push something else out of the nearest cache.
            return Core(0);
        }
        Core(self.entries[slot.index()] & !FOREIGN)
    }

    /// Whether the node owns a slot.
    #[inline]
    pub fn owns(&self, slot: Slot) -> bool {
        self.entries[slot.index()] & FOREIGN == 0
    }

    /// Whether the node owns every slot.
    #[inline]
    pub fn owns_all(&self) -> bool {
        self.foreign == 0
    }

    /// Gives a slot to a core of the node.
    ///
    /// # Panics
    /// The node has no such core.
    pub fn adopt(&mut self, slot: Slot, core: Core) {
        assert!(core.0 < self.cores, "a slot can only be given to a core that exists");
        self.foreign -= u16::from(!self.owns(slot));
        self.entries[slot.index()] = core.0;
    }

    /// Takes a slot away from the node; the core that has it goes on answering for it.
    pub fn disown(&mut self, slot: Slot) {
        self.foreign += u16::from(self.owns(slot));
        self.entries[slot.index()] |= FOREIGN;
    }

    /// How many cores the node has.
    #[inline]
    pub fn cores(&self) -> u16 {
        self.cores
    }

    /// How many of the slots that the node owns each core has, by core.
    pub fn loads(&self) -> Vec<u16> {
        let mut loads = vec![0; usize::from(self.cores)];
        for entry in self.entries.iter().filter(|entry| *entry & FOREIGN == 0) {
            loads[usize::from(*entry)] += 1;
        }
        loads
    }

    /// The owned slots of one core.
    pub fn slots_of(&self, core: Core) -> SlotSet {
        Slot::all().filter(|slot| self.entries[slot.index()] == core.0).collect()
    }

    /// The map as ranges in slot order: the first slot of each, and its core or
    /// [`NOT_OWNED`]. A range ends where the next begins, and the last at the last slot.
    pub fn ranges(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        let named = |slot: Slot| match self.entries[slot.index()] {
            foreign if foreign & FOREIGN != 0 => NOT_OWNED,
            core => core,
        };
        let mut previous = None;
        Slot::all().filter_map(move |slot| {
            let core = named(slot);
            (previous.replace(core) != Some(core)).then_some((slot.number(), core))
        })
    }

    /// The map that [`CoreMap::ranges`] of another describes.
    ///
    /// # Errors
    /// Any of [`CoreMapError`].
    pub fn from_ranges(
        cores: u16,
        ranges: impl IntoIterator<Item = (u16, u16)>,
    ) -> Result<CoreMap, CoreMapError> {
        let mut map = CoreMap::without_slots(cores)?;
        let mut previous: Option<(u16, u16)> = None;
        for (first, core) in ranges {
            match previous {
                None if first != 0 => return Err(CoreMapError::Start),
                Some((before, _)) if first <= before || Slot::new(first).is_none() => {
                    return Err(CoreMapError::Order { first });
                }
                _ => {}
            }
            if core >= cores && core != NOT_OWNED {
                return Err(CoreMapError::NoSuchCore { first, core });
            }
            if let Some(range) = previous {
                map.fill(range, first);
            }
            previous = Some((first, core));
        }
        map.fill(previous.ok_or(CoreMapError::Start)?, SLOTS as u16);
        Ok(map)
    }

    fn fill(&mut self, (first, core): (u16, u16), end: u16) {
        if core != NOT_OWNED {
            self.entries[usize::from(first)..usize::from(end)].fill(core);
            self.foreign -= end - first;
        }
    }
}

/// The core of the slot with this rank among `count`, when they are shared out in runs.
fn share(rank: usize, count: usize, cores: u16) -> u16 {
    (rank * usize::from(cores) / count) as u16
}

impl std::fmt::Debug for CoreMap {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("CoreMap").field("cores", &self.cores).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    fn random_set(random: &mut StdRng) -> SlotSet {
        let share = random.random_range(0.0..1.0);
        Slot::all().filter(|_| random.random_bool(share)).collect()
    }

    fn assert_balanced(map: &CoreMap) {
        let loads = map.loads();
        let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
        assert!(most - least <= 1, "{least} to {most} slots a core");
    }

    #[test]
    fn even_ranges_are_contiguous_and_balanced() {
        for cores in (1..=130).chain([1_000, 1_024, 16_383, 16_384]) {
            let map = CoreMap::even(cores).unwrap();
            assert_balanced(&map);
            assert_eq!(map.ranges().count(), usize::from(cores), "one range a core");
            assert!(Slot::all().is_sorted_by_key(|slot| map.core_of(slot)));
            assert!(Slot::all().all(|slot| map.owns(slot)));
        }
    }

    #[test]
    fn impossible_numbers_of_cores_are_refused() {
        for cores in [0, CORES_MAX + 1, u16::MAX] {
            assert_eq!(CoreMap::even(cores), Err(CoreMapError::Cores { cores }));
        }
    }

    #[test]
    fn owned_slots_are_spread_by_rank() {
        let mut random = StdRng::seed_from_u64(7);
        for _ in 0..12 {
            let owned = random_set(&mut random);
            let cores = random.random_range(1..100);
            let map = CoreMap::by_rank(cores, &owned).unwrap();
            assert_balanced(&map);
            assert!(owned.iter().is_sorted_by_key(|slot| map.core_of(slot)));
            assert!(Slot::all().all(|slot| map.owns(slot) == owned.contains(slot)));
            assert!(Slot::all().all(|slot| map.core_of(slot).0 < cores));
            let per_core: usize = (0..cores).map(|core| map.slots_of(Core(core)).len()).sum();
            assert_eq!(per_core, owned.len());
        }
    }

    #[test]
    fn reassigning_moves_nothing_that_stays() {
        let mut random = StdRng::seed_from_u64(8);
        let mut map = CoreMap::even(24).unwrap();
        for _ in 0..12 {
            let owned = random_set(&mut random);
            let next = map.reassign(&owned);
            let mut loads = [0u32; 24];
            for slot in owned.iter().filter(|slot| map.owns(*slot)) {
                assert_eq!(next.core_of(slot), map.core_of(slot));
                loads[map.core_of(slot).index()] += 1;
            }
            for slot in owned.iter().filter(|slot| !map.owns(*slot)) {
                let core = next.core_of(slot).index();
                assert!(loads.iter().all(|load| *load >= loads[core]), "not the least loaded");
                loads[core] += 1;
            }
            assert!(Slot::all().all(|slot| next.owns(slot) == owned.contains(slot)));
            map = next;
        }
    }

    #[test]
    fn a_node_that_gets_every_slot_back_is_balanced_again() {
        let map = CoreMap::even(16).unwrap();
        let all_back = map.reassign(&SlotSet::empty()).reassign(&SlotSet::full());
        assert_balanced(&all_back);
    }

    #[test]
    fn slots_are_given_and_taken_one_by_one() {
        let mut map = CoreMap::even(3).unwrap();
        let slot = Slot::new(9_000).unwrap();
        assert!(map.owns_all());
        map.disown(slot);
        map.disown(slot);
        assert!(!map.owns(slot) && !map.owns_all());
        map.adopt(slot, Core(2));
        map.adopt(slot, Core(2));
        assert!(map.owns(slot) && map.owns_all());
        assert_eq!(map.core_of(slot), Core(2));
    }

    #[test]
    fn ranges_describe_the_map() {
        let mut random = StdRng::seed_from_u64(9);
        let mut map = CoreMap::even(5).unwrap();
        for _ in 0..12 {
            let again = CoreMap::from_ranges(map.cores(), map.ranges()).unwrap();
            assert!(again == map);
            map = map.reassign(&random_set(&mut random));
        }
    }

    #[test]
    fn malformed_ranges_are_refused() {
        let check = |ranges: &[(u16, u16)], error| {
            assert_eq!(CoreMap::from_ranges(2, ranges.iter().copied()), Err(error));
        };
        check(&[], CoreMapError::Start);
        check(&[(1, 0)], CoreMapError::Start);
        check(&[(0, 0), (0, 1)], CoreMapError::Order { first: 0 });
        check(&[(0, 0), (9, 1), (8, 0)], CoreMapError::Order { first: 8 });
        check(&[(0, 0), (16_384, 1)], CoreMapError::Order { first: 16_384 });
        check(&[(0, 2)], CoreMapError::NoSuchCore { first: 0, core: 2 });
    }
}
