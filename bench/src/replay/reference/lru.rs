//! The object not asked for longest leaves.

use super::list::{Links, List};
use super::{Lookup, Reference, Room};

/// See the module.
pub struct Lru<'t> {
    room: Room<'t>,
    resident: Vec<bool>,
    links: Links,
    by_use: List,
}

impl<'t> Lru<'t> {
    /// An empty cache for objects numbered below `objects`.
    pub fn new(room: Room<'t>, objects: usize) -> Lru<'t> {
        let links = Links::new(objects);
        Lru { room, resident: vec![false; objects], links, by_use: List::EMPTY }
    }

    fn evict(&mut self) {
        let object = self.by_use.oldest().expect("a cache without place holds something");
        self.by_use.remove(&mut self.links, object);
        self.resident[object as usize] = false;
        self.room.remove(object);
    }
}

impl Reference for Lru<'_> {
    fn request(&mut self, object: u32) -> Lookup {
        if self.resident[object as usize] {
            self.by_use.remove(&mut self.links, object);
            self.by_use.push_newest(&mut self.links, object);
            return Lookup::Hit;
        }
        if self.room.suits(object) {
            while !self.room.has_place_for(object) {
                self.evict();
            }
            self.resident[object as usize] = true;
            self.room.add(object);
            self.by_use.push_newest(&mut self.links, object);
        }
        Lookup::Miss
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ANOMALY, check, skewed_requests};
    use super::super::{Weights, count_misses};
    use super::*;

    /// Keeps its objects sorted by use in one vector.
    struct Plain(Vec<u32>, usize);

    impl Reference for Plain {
        fn request(&mut self, object: u32) -> Lookup {
            let found = self.0.iter().position(|other| *other == object);
            match found {
                Some(index) => drop(self.0.remove(index)),
                None if self.0.len() == self.1 => drop(self.0.remove(0)),
                None => {}
            }
            self.0.push(object);
            if found.is_some() { Lookup::Hit } else { Lookup::Miss }
        }
    }

    #[test]
    fn the_textbooks_sequence() {
        let mut cache = Lru::new(Room::new(3, Weights::One), 6);
        check(&mut cache, ANOMALY, "MMMMMMM HHMMM");
        let mut cache = Lru::new(Room::new(4, Weights::One), 6);
        check(&mut cache, ANOMALY, "MMMMHHM HHMMM");
    }

    #[test]
    fn a_large_object_drives_out_several() {
        let weights = [1, 1, 1, 3, 2];
        let mut cache = Lru::new(Room::new(4, Weights::Each(&weights)), 5);
        // 3 makes 0 and 1 leave, 4 makes 2 and 3 leave.
        check(&mut cache, "0 1 2 3 2 3 2 4 2 3", "MMMM HHH M HM");
    }

    #[test]
    fn it_agrees_with_a_sorted_vector() {
        for seed in 0..20 {
            let requests = skewed_requests(100, 3_000, seed);
            let capacity = 1 + seed * 7;
            let mut cache = Lru::new(Room::new(capacity, Weights::One), 100);
            let mut plain = Plain(Vec::new(), capacity as usize);
            assert_eq!(count_misses(&requests, &mut cache), count_misses(&requests, &mut plain));
        }
    }
}
