//! The object that came in first leaves.

use std::collections::VecDeque;

use super::{Lookup, Reference, Room};

/// See the module.
pub struct Fifo<'t> {
    room: Room<'t>,
    resident: Vec<bool>,
    queue: VecDeque<u32>,
}

impl<'t> Fifo<'t> {
    /// An empty cache for objects numbered below `objects`.
    pub fn new(room: Room<'t>, objects: usize) -> Fifo<'t> {
        Fifo { room, resident: vec![false; objects], queue: VecDeque::new() }
    }
}

impl Reference for Fifo<'_> {
    fn request(&mut self, object: u32) -> Lookup {
        if self.resident[object as usize] {
            return Lookup::Hit;
        }
        if self.room.suits(object) {
            while !self.room.has_place_for(object) {
                let first = self.queue.pop_front().expect("a cache without place holds something");
                self.resident[first as usize] = false;
                self.room.remove(first);
            }
            self.resident[object as usize] = true;
            self.room.add(object);
            self.queue.push_back(object);
        }
        Lookup::Miss
    }
}

#[cfg(test)]
mod tests {
    use super::super::Weights;
    use super::super::tests::{ANOMALY, check};
    use super::*;

    #[test]
    fn more_frames_miss_more_on_the_textbooks_sequence() {
        let mut cache = Fifo::new(Room::new(3, Weights::One), 6);
        check(&mut cache, ANOMALY, "MMMMMMM HHMMH");
        let mut cache = Fifo::new(Room::new(4, Weights::One), 6);
        check(&mut cache, ANOMALY, "MMMMHHM MMMMM");
    }
}
