//! How much a cache holds and may hold, in whatever objects weigh.

/// What objects weigh.
#[derive(Clone, Copy, Debug)]
pub enum Weights<'t> {
    /// One each: a limit in entries.
    One,
    /// As many bytes as are listed by object: a limit in bytes.
    Each(&'t [u32]),
}

impl Weights<'_> {
    /// The weight of an object.
    pub fn of(&self, object: u32) -> u64 {
        match self {
            Weights::One => 1,
            Weights::Each(bytes) => u64::from(bytes[object as usize]),
        }
    }
}

/// The limit of a cache, and what is in use of it.
#[derive(Clone, Debug)]
pub struct Room<'t> {
    capacity: u64,
    used: u64,
    weights: Weights<'t>,
}

impl<'t> Room<'t> {
    /// An empty cache's.
    pub fn new(capacity: u64, weights: Weights<'t>) -> Room<'t> {
        Room { capacity, used: 0, weights }
    }

    /// The same kind of room for part of a cache.
    pub fn part(&self, capacity: u64) -> Room<'t> {
        Room::new(capacity, self.weights)
    }

    /// The limit.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// What is in use.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// The weight of an object.
    pub fn weight(&self, object: u32) -> u64 {
        self.weights.of(object)
    }

    /// Whether an object fits into the empty cache.
    pub fn suits(&self, object: u32) -> bool {
        self.weight(object) <= self.capacity
    }

    /// Whether an object fits in beside all that is there.
    pub fn has_place_for(&self, object: u32) -> bool {
        self.used + self.weight(object) <= self.capacity
    }

    /// An object came in.
    pub fn add(&mut self, object: u32) {
        self.used += self.weight(object);
    }

    /// An object left.
    pub fn remove(&mut self, object: u32) {
        self.used -= self.weight(object);
    }
}
