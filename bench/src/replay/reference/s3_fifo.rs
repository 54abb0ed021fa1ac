//! S3-FIFO as published: J. Yang and others, "FIFO queues are all you need for cache
//! eviction", SOSP 2023, section 4.1.
//!
//! ```text
//!  new ─► small, 10 % ─ used twice or more ─► main, FIFO with re-insertion ─► gone
//!              └ else ─► ghost: the numbers of as much as main holds ─ asked again ─► main
//! ```

use super::list::{Links, List};
use super::{Lookup, Reference, Room};

/// Uses that are counted at most: two bits.
const USES_MAX: u8 = 3;
/// Uses, after the request that brought it, with which an object goes from small to main.
const USES_TO_STAY: u8 = 2;
/// Small's share of the cache is one in so many.
const SMALL_ONE_IN: u64 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    Ghost,
    Small,
    Main,
}

/// A queue, and the room that it may take.
struct Queue<'t> {
    room: Room<'t>,
    list: List,
}

impl<'t> Queue<'t> {
    fn new(room: Room<'t>) -> Queue<'t> {
        Queue { room, list: List::EMPTY }
    }

    fn push(&mut self, links: &mut Links, object: u32) {
        self.room.add(object);
        self.list.push_newest(links, object);
    }

    fn remove(&mut self, links: &mut Links, object: u32) {
        self.room.remove(object);
        self.list.remove(links, object);
    }

    fn pop(&mut self, links: &mut Links) -> Option<u32> {
        let object = self.list.oldest()?;
        self.remove(links, object);
        Some(object)
    }
}

/// See the module.
pub struct S3Fifo<'t> {
    room: Room<'t>,
    links: Links,
    small: Queue<'t>,
    main: Queue<'t>,
    ghost: Queue<'t>,
    places: Vec<Place>,
    uses: Vec<u8>,
}

impl<'t> S3Fifo<'t> {
    /// An empty cache for objects numbered below `objects`.
    pub fn new(room: Room<'t>, objects: usize) -> S3Fifo<'t> {
        let small = (room.capacity() / SMALL_ONE_IN).max(1);
        let main = room.capacity().saturating_sub(small);
        S3Fifo {
            links: Links::new(objects),
            small: Queue::new(room.part(small)),
            main: Queue::new(room.part(main)),
            ghost: Queue::new(room.part(main)),
            room,
            places: vec![Place::Nowhere; objects],
            uses: vec![0; objects],
        }
    }

    /// Makes one object leave, or moves all of small to main where nothing in it may leave.
    fn evict(&mut self) {
        let small = &self.small.room;
        if small.used() >= small.capacity() || self.main.room.used() == 0 {
            self.evict_from_small();
        } else {
            self.evict_from_main();
        }
    }

    fn evict_from_small(&mut self) {
        while let Some(object) = self.small.pop(&mut self.links) {
            if self.uses[object as usize] < USES_TO_STAY {
                self.room.remove(object);
                self.remember(object);
                return;
            }
            self.enter_main(object);
            if self.main.room.used() > self.main.room.capacity() {
                self.evict_from_main();
                return;
            }
        }
    }

    fn evict_from_main(&mut self) {
        while let Some(object) = self.main.pop(&mut self.links) {
            if self.uses[object as usize] == 0 {
                self.room.remove(object);
                self.places[object as usize] = Place::Nowhere;
                return;
            }
            self.uses[object as usize] -= 1;
            self.main.push(&mut self.links, object);
        }
    }

    fn enter_main(&mut self, object: u32) {
        self.uses[object as usize] = 0;
        self.places[object as usize] = Place::Main;
        self.main.push(&mut self.links, object);
    }

    fn remember(&mut self, object: u32) {
        self.places[object as usize] = Place::Nowhere;
        if !self.ghost.room.suits(object) {
            return;
        }
        while !self.ghost.room.has_place_for(object) {
            let oldest = self.ghost.pop(&mut self.links);
            let oldest = oldest.expect("a ghost without place holds something");
            self.places[oldest as usize] = Place::Nowhere;
        }
        self.places[object as usize] = Place::Ghost;
        self.ghost.push(&mut self.links, object);
    }
}

impl Reference for S3Fifo<'_> {
    fn request(&mut self, object: u32) -> Lookup {
        if matches!(self.places[object as usize], Place::Small | Place::Main) {
            let uses = &mut self.uses[object as usize];
            *uses = (*uses + 1).min(USES_MAX);
            return Lookup::Hit;
        }
        if self.room.suits(object) {
            while !self.room.has_place_for(object) {
                self.evict();
            }
            self.room.add(object);
            if self.places[object as usize] == Place::Ghost {
                self.ghost.remove(&mut self.links, object);
                self.enter_main(object);
            } else {
                self.uses[object as usize] = 0;
                self.places[object as usize] = Place::Small;
                self.small.push(&mut self.links, object);
            }
        }
        Lookup::Miss
    }
}

#[cfg(test)]
mod tests {
    use super::super::Weights;
    use super::super::tests::{check, numbers, skewed_requests};
    use super::*;

    fn cache(capacity: u64) -> S3Fifo<'static> {
        S3Fifo::new(Room::new(capacity, Weights::One), 30)
    }

    fn check_places(cache: &S3Fifo<'_>, place: Place, expected: &str) {
        let mut found: Vec<u32> = (0..cache.places.len() as u32).collect();
        found.retain(|object| cache.places[*object as usize] == place);
        assert_eq!(found, numbers(expected), "{place:?}");
    }

    #[test]
    fn what_was_used_twice_in_small_goes_to_main() {
        // Small takes 1 of 10, and all while main is empty.
        let mut cache = cache(10);
        check(&mut cache, "0 0 0 1 1 2 3 4 5 6 7 8 9", "MHH MH MMMMMMMM");
        check_places(&cache, Place::Small, "0 1 2 3 4 5 6 7 8 9");
        // 0 has two uses and moves; 1 has one and leaves, remembered.
        check(&mut cache, "10", "M");
        check_places(&cache, Place::Main, "0");
        check_places(&cache, Place::Ghost, "1");
        // Its return drives 2 out and enters main.
        check(&mut cache, "1", "M");
        check_places(&cache, Place::Main, "0 1");
        check_places(&cache, Place::Ghost, "2");
        check(&mut cache, "0 1 10", "HHH");
    }

    #[test]
    fn a_scan_passes_through_small() {
        let mut cache = cache(10);
        check(&mut cache, "0 0 0 1 1 1 2 2 2", "MHH MHH MHH");
        check(&mut cache, "3 4 5 6 7 8 9 10 11 12 13 14 15 16", "MMMMMMM MMMMMMM");
        check_places(&cache, Place::Main, "0 1 2");
        check_places(&cache, Place::Small, "10 11 12 13 14 15 16");
        check_places(&cache, Place::Ghost, "3 4 5 6 7 8 9");
        check(&mut cache, "0 1 2", "HHH");
    }

    #[test]
    fn main_gives_used_objects_another_round() {
        // Small 1, main 1, ghost 1.
        let mut cache = cache(2);
        check(&mut cache, "0 1 0 0", "MM HH");
        // 0 moves to main, 1 leaves and is remembered.
        check(&mut cache, "2", "M");
        check_places(&cache, Place::Main, "0");
        // 2 makes room for 1 in the ghost, so 1 comes back as new.
        check(&mut cache, "1", "M");
        check_places(&cache, Place::Small, "1");
        check_places(&cache, Place::Ghost, "2");
        // 1 is used twice and 0 once: 1 enters main, which is too much for it, 0 is given
        // another round and 1, without uses in main yet, leaves unremembered.
        check(&mut cache, "1 1 0 3", "HHH M");
        check_places(&cache, Place::Main, "0");
        check_places(&cache, Place::Small, "3");
        check_places(&cache, Place::Ghost, "2");
    }

    #[test]
    fn the_ghost_holds_as_many_as_main() {
        let mut cache = cache(10);
        let requests: String = (0..30).map(|object| format!("{object} ")).collect();
        check(&mut cache, &requests, &"M".repeat(30));
        check_places(&cache, Place::Small, "20 21 22 23 24 25 26 27 28 29");
        check_places(&cache, Place::Ghost, "11 12 13 14 15 16 17 18 19");
    }

    #[test]
    fn rooms_hold_what_places_say() {
        let weights: Vec<u32> = (0..100).map(|object| 1 + object % 7).collect();
        for capacity in [1, 2, 9, 40, 130] {
            let room = Room::new(capacity, Weights::Each(&weights));
            let mut cache = S3Fifo::new(room, 100);
            for object in skewed_requests(100, 5_000, capacity) {
                cache.request(object);
                let mut sums = [0; 4];
                for (weight, place) in weights.iter().zip(&cache.places) {
                    sums[*place as usize] += u64::from(*weight);
                }
                let [_, ghost, small, main] = sums;
                assert_eq!(ghost, cache.ghost.room.used());
                assert_eq!(small, cache.small.room.used());
                assert_eq!(main, cache.main.room.used());
                assert_eq!(small + main, cache.room.used());
                assert!(small + main <= capacity);
            }
        }
    }
}
