//! The object asked for least often since it came in leaves; of several, the one not asked
//! for longest. Nothing ages: a count ends only with the object's stay.

use super::list::{Links, List};
use super::{Lookup, Reference, Room};

/// See the module.
pub struct Lfu<'t> {
    room: Room<'t>,
    /// Requests of each object in its stay; 0 where it is not here.
    counts: Vec<u32>,
    links: Links,
    /// The objects of each count, by use.
    by_count: Vec<List>,
    /// No object has a lower count.
    least: u32,
}

impl<'t> Lfu<'t> {
    /// An empty cache for objects numbered below `objects`.
    pub fn new(room: Room<'t>, objects: usize) -> Lfu<'t> {
        Lfu {
            room,
            counts: vec![0; objects],
            links: Links::new(objects),
            by_count: vec![List::EMPTY; 2],
            least: 1,
        }
    }

    fn evict(&mut self) {
        let object = loop {
            let list = self.by_count.get(self.least as usize);
            match list.expect("a cache without place holds something").oldest() {
                Some(object) => break object,
                None => self.least += 1,
            }
        };
        self.by_count[self.least as usize].remove(&mut self.links, object);
        self.counts[object as usize] = 0;
        self.room.remove(object);
    }

    fn raise(&mut self, object: u32) {
        let count = self.counts[object as usize];
        self.by_count[count as usize].remove(&mut self.links, object);
        let count = count + 1;
        if self.by_count.len() == count as usize {
            self.by_count.push(List::EMPTY);
        }
        self.by_count[count as usize].push_newest(&mut self.links, object);
        self.counts[object as usize] = count;
    }
}

impl Reference for Lfu<'_> {
    fn request(&mut self, object: u32) -> Lookup {
        if self.counts[object as usize] > 0 {
            self.raise(object);
            return Lookup::Hit;
        }
        if self.room.suits(object) {
            while !self.room.has_place_for(object) {
                self.evict();
            }
            self.counts[object as usize] = 1;
            self.by_count[1].push_newest(&mut self.links, object);
            self.least = 1;
            self.room.add(object);
        }
        Lookup::Miss
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, skewed_requests};
    use super::super::{Weights, count_misses};
    use super::*;

    /// Looks through all its objects for the one to evict.
    struct Plain {
        /// Object, count, when it was last asked for.
        entries: Vec<(u32, u32, u64)>,
        capacity: usize,
        time: u64,
    }

    impl Reference for Plain {
        fn request(&mut self, object: u32) -> Lookup {
            self.time += 1;
            if let Some(entry) = self.entries.iter_mut().find(|entry| entry.0 == object) {
                (entry.1, entry.2) = (entry.1 + 1, self.time);
                return Lookup::Hit;
            }
            if self.entries.len() == self.capacity {
                let keys = self.entries.iter().map(|entry| (entry.1, entry.2)).enumerate();
                let (index, _) = keys.min_by_key(|(_, key)| *key).expect("it is full");
                self.entries.remove(index);
            }
            self.entries.push((object, 1, self.time));
            Lookup::Miss
        }
    }

    #[test]
    fn the_rare_leave_first_and_of_these_the_old() {
        let mut cache = Lfu::new(Room::new(3, Weights::One), 6);
        // 0 has three requests and 1 two, so 2, 3 and 4 drive each other out; 1 comes back
        // with a count of its new stay.
        check(&mut cache, "0 0 0 1 1 2 3 4 0 1 2", "MHHMH MMM HHM");
        let mut cache = Lfu::new(Room::new(2, Weights::One), 6);
        check(&mut cache, "0 1 2 0 1 1 0 2", "MMM M M H H M");
    }

    #[test]
    fn it_agrees_with_a_search_through_all() {
        for seed in 0..20 {
            let requests = skewed_requests(100, 3_000, seed);
            let capacity = 1 + seed * 4;
            let mut cache = Lfu::new(Room::new(capacity, Weights::One), 100);
            let mut plain = Plain { entries: Vec::new(), capacity: capacity as usize, time: 0 };
            assert_eq!(count_misses(&requests, &mut cache), count_misses(&requests, &mut plain));
        }
    }
}
