//! Which core's keys a connection asks for.
//!
//! A node tells in its welcome which core owns which slots; from that [`CoreMap`] the
//! generator knows the owner of every key. A [`Chooser`] draws keys from the workload's
//! distribution and deals them out: a key drawn for one connection that belongs to
//! another core waits in a short queue until a connection to that core wants one, so a
//! draw is rarely wasted however many cores there are.

use std::collections::VecDeque;
use std::sync::Arc;

use corelane_ring::{CoreMap, slot_of};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde::Serialize;

use super::distribution::Sampler;
use super::keys::{KeyBuffer, KeyFormat, KeyNumber};

/// Most drawn keys that wait for connections of one core; further ones are forgotten.
/// Queues fill where connections are spread otherwise over the cores than draws are.
const WAITING_MAX: usize = 1_024;

/// Which core a connection talks to, and whose keys it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Steer {
    /// Each connection names a core and asks for the keys of that core.
    Owner,
    /// The same, and each thread talks to as few cores as it can.
    Thread,
    /// Connections stay where they land and ask for any key.
    Any,
    /// Each connection names a core and asks for keys that other cores own.
    Wrong,
}

/// The keys that one connection asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Any.
    Any,
    /// Those of this core.
    Of(u16),
    /// Those that are not this core's.
    NotOf(u16),
}

/// Draws keys for connections with different targets.
#[derive(Clone, Debug)]
pub struct Chooser {
    sampler: Sampler,
    random: SmallRng,
    owners: Owners,
    /// Drawn keys of each core that wait for a connection; empty without a map.
    waiting: Vec<VecDeque<KeyNumber>>,
}

/// Tells the owner of a key by its number.
#[derive(Clone, Debug)]
pub struct Owners {
    map: Option<Arc<CoreMap>>,
    format: KeyFormat,
    buffer: KeyBuffer,
}

impl Owners {
    /// Without a map, or with one of a single core, no key needs hashing.
    pub fn new(map: Option<Arc<CoreMap>>, format: KeyFormat) -> Owners {
        let buffer = format.buffer();
        Owners { map: map.filter(|map| map.cores() > 1), format, buffer }
    }

    /// The core that owns a key; 0 where there is but one.
    pub fn owner(&mut self, number: KeyNumber) -> u16 {
        match &self.map {
            Some(map) => map.core_of(slot_of(self.format.write(number, &mut self.buffer))).0,
            None => 0,
        }
    }

    fn cores(&self) -> usize {
        self.map.as_ref().map_or(1, |map| usize::from(map.cores()))
    }
}

impl Chooser {
    /// Draws from a sampler; the same seed draws the same keys.
    pub fn new(sampler: Sampler, owners: Owners, seed: u64) -> Chooser {
        let waiting = vec![VecDeque::new(); owners.cores()];
        Chooser { sampler, random: SmallRng::seed_from_u64(seed), owners, waiting }
    }

    /// The next key for a connection.
    ///
    /// # Panics
    /// The target's core does not exist, or there is no other and another is wanted.
    pub fn draw(&mut self, target: Target) -> KeyNumber {
        match target {
            Target::Any => self.sampler.draw(&mut self.random),
            Target::Of(core) => self.draw_of(core),
            Target::NotOf(core) => {
                assert!(self.waiting.len() > 1, "a single core has no foreign keys");
                loop {
                    let number = self.sampler.draw(&mut self.random);
                    if self.owners.owner(number) != core {
                        return number;
                    }
                }
            }
        }
    }

    fn draw_of(&mut self, core: u16) -> KeyNumber {
        if self.waiting.len() == 1 {
            assert_eq!(core, 0, "the node has one core");
            return self.sampler.draw(&mut self.random);
        }
        if let Some(number) = self.waiting[usize::from(core)].pop_front() {
            return number;
        }
        loop {
            let number = self.sampler.draw(&mut self.random);
            let owner = self.owners.owner(number);
            if owner == core {
                return number;
            }
            let queue = &mut self.waiting[usize::from(owner)];
            if queue.len() < WAITING_MAX {
                queue.push_back(number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::distribution::Distribution;

    fn owners(cores: u16, keys: u64) -> Owners {
        let map = Arc::new(CoreMap::even(cores).unwrap());
        Owners::new(Some(map), KeyFormat::new(keys, 16).unwrap())
    }

    fn chooser(cores: u16, keys: u64) -> Chooser {
        Chooser::new(Sampler::new(Distribution::Uniform, keys), owners(cores, keys), 1)
    }

    #[test]
    fn connections_get_the_keys_of_their_target() {
        let mut owners = owners(4, 10_000);
        let mut chooser = chooser(4, 10_000);
        for turn in 0..4_000 {
            let core = turn % 4;
            assert_eq!(owners.owner(chooser.draw(Target::Of(core))), core);
            assert_ne!(owners.owner(chooser.draw(Target::NotOf(core))), core);
        }
    }

    #[test]
    fn a_single_steered_core_does_not_pile_up_keys() {
        let mut chooser = chooser(4, 10_000);
        for _ in 0..20_000 {
            chooser.draw(Target::Of(2));
        }
        assert!(chooser.waiting.iter().all(|queue| queue.len() <= WAITING_MAX));
    }

    #[test]
    fn one_core_owns_everything() {
        let mut chooser = chooser(1, 100);
        let mut seen = [false; 100];
        for _ in 0..2_000 {
            seen[chooser.draw(Target::Of(0)).0 as usize] = true;
        }
        assert!(seen.iter().all(|seen| *seen));
    }
}
