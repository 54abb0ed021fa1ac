//! Plain caches to compare with: each does exactly what its name says, one object at a time,
//! with memory for every object of the trace, so that nothing in them is approximated.
//!
//! ```text
//! trace ─ object's number ─► Reference::request ─► Hit | Miss
//!                                 └ Room: what is in use, of which limit
//! ```

mod list;
mod room;

pub mod fifo;
pub mod lfu;
pub mod lru;
pub mod optimum;
pub mod random;
pub mod s3_fifo;

pub use room::{Room, Weights};

/// Whether a cache had what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It had.
    Hit,
    /// It had not. Now it has, unless the object is larger than the cache.
    Miss,
}

/// A cache that takes in whatever is asked for.
pub trait Reference {
    /// Asks for an object by its number.
    fn request(&mut self, object: u32) -> Lookup;
}

/// The misses of a cache over a sequence of requests.
pub fn count_misses(requests: &[u32], cache: &mut dyn Reference) -> u64 {
    requests.iter().filter(|object| cache.request(**object) == Lookup::Miss).count() as u64
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    /// Requests of a skewed sort: low numbers come more often.
    pub(crate) fn skewed_requests(objects: u32, count: usize, seed: u64) -> Vec<u32> {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut draw = || random.next_u64() as u32 % objects;
        (0..count).map(|_| draw().min(draw()).min(draw())).collect()
    }

    /// The numbers of a text such as "1 2 3".
    pub(crate) fn numbers(text: &str) -> Vec<u32> {
        text.split_whitespace().map(|number| number.parse().expect("a number")).collect()
    }

    /// Asks for objects given as "1 2 3", and tells hits and misses as "M" and "H".
    pub(crate) fn check(cache: &mut dyn Reference, requests: &str, expected: &str) {
        let outcome: String = numbers(requests)
            .into_iter()
            .map(|object| match cache.request(object) {
                Lookup::Hit => 'H',
                Lookup::Miss => 'M',
            })
            .collect();
        assert_eq!(outcome, expected.replace(' ', ""), "{requests}");
    }

    /// The textbook's sequence, on which first in, first out has fewer misses with three
    /// frames than with four (Belady, Nelson, Shedler 1969).
    pub(crate) const ANOMALY: &str = "1 2 3 4 1 2 5 1 2 3 4 5";

    #[test]
    fn misses_are_counted() {
        let mut cache = lru::Lru::new(Room::new(2, Weights::One), 4);
        assert_eq!(count_misses(&[0, 1, 0, 2, 1, 0], &mut cache), 5);
    }

    #[test]
    fn no_cache_is_better_than_the_optimum() {
        let requests = skewed_requests(300, 20_000, 5);
        let room = || Room::new(30, Weights::One);
        let mut caches: Vec<Box<dyn Reference>> = vec![
            Box::new(lru::Lru::new(room(), 300)),
            Box::new(fifo::Fifo::new(room(), 300)),
            Box::new(random::Random::new(room(), 300, 1)),
            Box::new(lfu::Lfu::new(room(), 300)),
            Box::new(s3_fifo::S3Fifo::new(room(), 300)),
        ];
        let next = optimum::next_requests(&requests, 300);
        let mut optimum = optimum::Optimum::new(room(), 300, &next);
        let least = count_misses(&requests, &mut optimum);
        for cache in &mut caches {
            assert!(count_misses(&requests, cache.as_mut()) > least);
        }
    }

    #[test]
    fn nothing_larger_than_the_cache_is_taken_in() {
        let weights = [1, 1, 9];
        let room = || Room::new(4, Weights::Each(&weights));
        let next = optimum::next_requests(&[2, 2, 0, 0], 3);
        let mut caches: Vec<Box<dyn Reference>> = vec![
            Box::new(lru::Lru::new(room(), 3)),
            Box::new(fifo::Fifo::new(room(), 3)),
            Box::new(random::Random::new(room(), 3, 1)),
            Box::new(lfu::Lfu::new(room(), 3)),
            Box::new(s3_fifo::S3Fifo::new(room(), 3)),
            Box::new(optimum::Optimum::new(room(), 3, &next)),
        ];
        for cache in &mut caches {
            check(cache.as_mut(), "2 2 0 0", "MMMH");
        }
    }
}
