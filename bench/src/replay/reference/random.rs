//! Any object leaves, each with the same chance.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{Lookup, Reference, Room};

const ABSENT: u32 = u32::MAX;

/// See the module.
pub struct Random<'t> {
    room: Room<'t>,
    residents: Vec<u32>,
    /// Where among the residents each object is.
    place: Vec<u32>,
    random: SmallRng,
}

impl<'t> Random<'t> {
    /// An empty cache for objects numbered below `objects`.
    pub fn new(room: Room<'t>, objects: usize, seed: u64) -> Random<'t> {
        let random = SmallRng::seed_from_u64(seed);
        Random { room, residents: Vec::new(), place: vec![ABSENT; objects], random }
    }

    fn evict(&mut self) {
        let count = self.residents.len() as u64;
        assert!(count > 0, "a cache without place holds something");
        let drawn = ((u128::from(self.random.next_u64()) * u128::from(count)) >> 64) as usize;
        let object = self.residents.swap_remove(drawn);
        if let Some(moved) = self.residents.get(drawn) {
            self.place[*moved as usize] = drawn as u32;
        }
        self.place[object as usize] = ABSENT;
        self.room.remove(object);
    }
}

impl Reference for Random<'_> {
    fn request(&mut self, object: u32) -> Lookup {
        if self.place[object as usize] != ABSENT {
            return Lookup::Hit;
        }
        if self.room.suits(object) {
            while !self.room.has_place_for(object) {
                self.evict();
            }
            self.place[object as usize] = self.residents.len() as u32;
            self.residents.push(object);
            self.room.add(object);
        }
        Lookup::Miss
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;
    use super::super::{Weights, count_misses};
    use super::*;

    #[test]
    fn what_fits_stays() {
        let mut cache = Random::new(Room::new(3, Weights::One), 4, 1);
        check(&mut cache, "0 1 2 0 1 2", "MMM HHH");
    }

    #[test]
    fn uniform_requests_hit_in_proportion_to_the_size() {
        let mut random = SmallRng::seed_from_u64(9);
        let requests: Vec<u32> = (0..100_000).map(|_| random.next_u64() as u32 % 1_000).collect();
        let mut cache = Random::new(Room::new(250, Weights::One), 1_000, 2);
        let share = count_misses(&requests, &mut cache) as f64 / 1e5;
        assert!((share - 0.75).abs() < 0.01, "{share}");
    }

    #[test]
    fn every_resident_is_found_where_it_is_noted() {
        let mut random = SmallRng::seed_from_u64(4);
        let mut cache = Random::new(Room::new(17, Weights::One), 60, 3);
        for _ in 0..5_000 {
            cache.request(random.next_u64() as u32 % 60);
            for (index, object) in cache.residents.iter().enumerate() {
                assert_eq!(cache.place[*object as usize], index as u32);
            }
            let noted = cache.place.iter().filter(|place| **place != ABSENT).count();
            assert_eq!(noted, cache.residents.len());
            assert_eq!(cache.room.used(), noted as u64);
        }
    }
}
