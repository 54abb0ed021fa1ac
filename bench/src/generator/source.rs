//! What a thread's connections ask for next: random draws while measuring, and before it
//! every key once.

use crate::workload::steering::Owners;
use crate::workload::{Chooser, KeyNumber, Mix, Operation, Target};

/// Gives each connection its next operation.
pub trait Source {
    /// The next operation of a connection of this thread, by its index; nothing when there
    /// is no more.
    fn next(&mut self, connection: usize) -> Option<(Operation, KeyNumber)>;
}

/// Draws for ever from the workload.
#[derive(Debug)]
pub struct Draws {
    /// The target of each connection.
    pub targets: Vec<Target>,
    /// Reads and writes.
    pub mix: Mix,
    /// Keys.
    pub chooser: Chooser,
}

impl Source for Draws {
    fn next(&mut self, connection: usize) -> Option<(Operation, KeyNumber)> {
        Some((self.mix.draw(), self.chooser.draw(self.targets[connection])))
    }
}

/// The keys that one connection writes: every `step`-th from `next` on, and of these only
/// its core's where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The next number.
    pub next: u64,
    /// Distance between numbers.
    pub step: u64,
    /// Only keys of this core.
    pub core: Option<u16>,
}

/// Deals all keys out to the connections of all threads: each key is one connection's, of
/// its owner where connections are steered to owners.
pub fn shares(targets: &[Target]) -> Vec<Share> {
    let siblings = |core: u16| targets.iter().filter(move |other| **other == Target::Of(core));
    targets
        .iter()
        .enumerate()
        .map(|(index, target)| match *target {
            Target::Of(core) => {
                let before = targets[..index].iter().filter(|other| *other == target).count();
                Share { next: before as u64, step: siblings(core).count() as u64, core: Some(core) }
            }
            Target::Any | Target::NotOf(_) => {
                Share { next: index as u64, step: targets.len() as u64, core: None }
            }
        })
        .collect()
}

/// Writes every key once.
#[derive(Debug)]
pub struct Fill {
    /// What each connection of this thread writes.
    pub shares: Vec<Share>,
    /// How many keys there are.
    pub keys: u64,
    /// Who owns them.
    pub owners: Owners,
}

impl Source for Fill {
    fn next(&mut self, connection: usize) -> Option<(Operation, KeyNumber)> {
        let share = &mut self.shares[connection];
        while share.next < self.keys {
            let number = KeyNumber(share.next);
            share.next += share.step;
            if share.core.is_none_or(|core| self.owners.owner(number) == core) {
                return Some((Operation::Set, number));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::KeyFormat;
    use corelane_ring::CoreMap;
    use std::sync::Arc;

    /// Every key is written exactly once, whatever the targets.
    fn check(targets: &[Target]) {
        let map = Arc::new(CoreMap::even(2).unwrap());
        let format = KeyFormat::new(1_000, 16).unwrap();
        let mut fill = Fill {
            shares: shares(targets),
            keys: 1_000,
            owners: Owners::new(Some(map.clone()), format.clone()),
        };
        let mut owners = Owners::new(Some(map), format);
        let mut written = vec![0; 1_000];
        for (connection, target) in targets.iter().enumerate() {
            while let Some((operation, number)) = fill.next(connection) {
                assert_eq!(operation, Operation::Set);
                if let Target::Of(core) = target {
                    assert_eq!(owners.owner(number), *core);
                }
                written[number.0 as usize] += 1;
            }
        }
        assert!(written.iter().all(|times| *times == 1), "{targets:?}");
    }

    #[test]
    fn filling_writes_every_key_once() {
        check(&[Target::Any]);
        check(&[Target::Any; 7]);
        check(&[Target::Of(0), Target::Of(1)]);
        check(&[Target::Of(0), Target::Of(1), Target::Of(0), Target::Of(1), Target::Of(0)]);
        check(&[Target::NotOf(0), Target::NotOf(1), Target::NotOf(0)]);
    }
}
