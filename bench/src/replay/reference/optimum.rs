//! The object whose next request is farthest leaves (L. A. Belady, "A study of replacement
//! algorithms for a virtual-storage computer", 1966): no cache that takes in whatever is
//! asked for misses less, as long as all objects weigh the same. Where they do not, the true
//! optimum takes too long to find, and this is only a good approximation.

use std::collections::BinaryHeap;

use super::{Lookup, Reference, Room};

const NEVER: u32 = u32::MAX;
const ABSENT: u32 = 0;

/// For every request, the index of the next one for the same object; `u32::MAX` where there
/// is none.
pub fn next_requests(requests: &[u32], objects: usize) -> Vec<u32> {
    assert!(requests.len() < NEVER as usize, "requests are counted in 32 bits");
    let mut upcoming = vec![NEVER; objects];
    let mut next = vec![NEVER; requests.len()];
    for (index, object) in requests.iter().enumerate().rev() {
        next[index] = std::mem::replace(&mut upcoming[*object as usize], index as u32);
    }
    next
}

/// See the module.
pub struct Optimum<'t> {
    room: Room<'t>,
    next: &'t [u32],
    position: usize,
    /// When each object that is here is asked for next; [`ABSENT`] for the others, since
    /// nothing comes next at the first request.
    due: Vec<u32>,
    /// Of all that came in or was asked for: when it was due next, and which. What `due`
    /// does not confirm is outdated.
    farthest: BinaryHeap<(u32, u32)>,
}

impl<'t> Optimum<'t> {
    /// An empty cache for objects numbered below `objects` and for the requests, in order,
    /// that `next` was made of by [`next_requests`].
    pub fn new(room: Room<'t>, objects: usize, next: &'t [u32]) -> Optimum<'t> {
        let farthest = BinaryHeap::new();
        Optimum { room, next, position: 0, due: vec![ABSENT; objects], farthest }
    }

    fn evict(&mut self) {
        loop {
            let (due, object) = self.farthest.pop().expect("a cache without place holds something");
            if self.due[object as usize] == due {
                self.due[object as usize] = ABSENT;
                self.room.remove(object);
                return;
            }
        }
    }
}

impl Reference for Optimum<'_> {
    fn request(&mut self, object: u32) -> Lookup {
        let due = self.next[self.position];
        self.position += 1;
        let outcome = match self.due[object as usize] {
            ABSENT if !self.room.suits(object) => return Lookup::Miss,
            ABSENT => Lookup::Miss,
            _ => Lookup::Hit,
        };
        if outcome == Lookup::Miss {
            while !self.room.has_place_for(object) {
                self.evict();
            }
            self.room.add(object);
        }
        self.due[object as usize] = due;
        self.farthest.push((due, object));
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ANOMALY, check, numbers, skewed_requests};
    use super::super::{Weights, count_misses};
    use super::*;

    #[test]
    fn the_next_request_of_each_is_found() {
        assert_eq!(next_requests(&[0, 1, 0, 2, 1], 3), [2, 4, NEVER, NEVER, NEVER]);
        assert!(next_requests(&[], 3).is_empty());
    }

    #[test]
    fn the_textbooks_sequence() {
        let next = next_requests(&numbers(ANOMALY), 6);
        let mut cache = Optimum::new(Room::new(3, Weights::One), 6, &next);
        check(&mut cache, ANOMALY, "MMMM HHM HHMM H");
        let mut cache = Optimum::new(Room::new(4, Weights::One), 6, &next);
        check(&mut cache, ANOMALY, "MMMM HHM HHH M H");
    }

    /// The fewest misses by trying every choice: the set of residents after each request,
    /// with the fewest misses that lead there.
    fn fewest_misses(requests: &[u32], capacity: u32) -> u64 {
        let mut states = std::collections::BTreeMap::from([(0u32, 0u64)]);
        for object in requests {
            let mut following = std::collections::BTreeMap::new();
            let mut reach = |residents: u32, misses: u64| {
                let best = following.entry(residents).or_insert(misses);
                *best = misses.min(*best);
            };
            for (residents, misses) in states {
                let with = residents | 1 << object;
                if residents == with {
                    reach(residents, misses);
                } else if residents.count_ones() < capacity {
                    reach(with, misses + 1);
                } else {
                    let leaving = (0..32).filter(|other| residents & 1 << other != 0);
                    leaving.for_each(|other| reach(with & !(1 << other), misses + 1));
                }
            }
            states = following;
        }
        states.into_values().min().expect("there is always a state")
    }

    #[test]
    fn nothing_that_could_be_chosen_is_better() {
        for seed in 0..30 {
            let requests = skewed_requests(8, 60, seed);
            let capacity = 1 + seed % 5;
            let next = next_requests(&requests, 8);
            let mut cache = Optimum::new(Room::new(capacity, Weights::One), 8, &next);
            let misses = count_misses(&requests, &mut cache);
            assert_eq!(misses, fewest_misses(&requests, capacity as u32), "{requests:?}");
        }
    }
}
