//! The slots that one core serves, and how they come and go with topologies.
//!
//! A slot that leaves is not served from that moment on, and emptied in slices, at once or after a
//! while in which its next owner's clients may still read what it holds. If it comes back
//! before that is done, it is served once it is empty: another node may have answered for it
//! meanwhile, so what it held is stale.
//!
//! While the owner of another slot is down, this node may be asked to stand in for it. The core that
//! an even spread would give such a slot then has entries of it, which are emptied with the next
//! topology: it may bring the slot here, or to a node that knows better.

use std::collections::VecDeque;
use std::sync::Arc;

use corelane_protocol::{MonotonicUs, Redirect, RequestHead, ShortEpoch, StandIn, Welcome};
use corelane_ring::{Core, CoreMap, Slot, SlotSet};
use corelane_shard::TickOutcome;

use crate::cluster::ClusterView;
use crate::config::EngineConfig;
use crate::counters::Counters;
use crate::execute::Executor;
use crate::limits::{LEAVING_ENTRIES, LEAVING_SLOTS};

/// Where there may be something left of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// It has not left, as far as this core knows.
    NotYet,
    /// On this core.
    Here,
    /// On another.
    Core(Core),
    /// Nowhere any more.
    Gone,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Slots {
    here: Core,
    cluster: Option<Arc<ClusterView>>,
    /// How many slots this core serves.
    served: usize,
    /// The cluster's map, or all slots; less what is ours again and not yet empty.
    pub(crate) cores: CoreMap,
    /// Slots that may hold entries of this core and are not served.
    leaving: VecDeque<Slot>,
    /// Slots that left with the last topology and are not to be emptied yet.
    kept: SlotSet,
    /// Slots of other nodes that may hold entries of this core, which stood in for their owners.
    stood_in: SlotSet,
    epoch: ShortEpoch,
    /// The core map as a welcome carries it, without a cluster.
    even_ranges: Vec<u8>,
}

impl Slots {
    /// # Panics
    /// The configuration has no cores, or more than there are slots.
    pub(crate) fn new(config: &EngineConfig) -> Slots {
        let even = CoreMap::even(config.cores).expect("a node has between 1 and 16384 cores");
        let mut even_ranges = Vec::new();
        Welcome::encode_ranges(even.ranges(), &mut even_ranges);
        let mut slots = Slots {
            here: Core(config.core),
            cluster: None,
            served: even.slots_of(Core(config.core)).len(),
            cores: even,
            leaving: VecDeque::new(),
            kept: SlotSet::empty(),
            stood_in: SlotSet::empty(),
            epoch: ShortEpoch::default(),
            even_ranges,
        };
        if let Some(view) = &config.cluster {
            let _ = slots.replace(Arc::clone(view));
            // There is no data yet that could be stale.
            slots.leaving.clear();
            slots.cores = view.cores().clone();
            slots.served = slots.cores.slots_of(slots.here).len();
        }
        slots
    }

    /// Puts a later view in force. Returns the slots of this core that came with it and may be
    /// warmed.
    pub(crate) fn replace(&mut self, view: Arc<ClusterView>) -> SlotSet {
        // Only what left with the last topology is kept.
        self.let_go();
        self.leaving.extend(std::mem::replace(&mut self.stood_in, SlotSet::empty()).iter());
        let before = std::mem::replace(&mut self.cores, view.cores().clone());
        let is_here = |map: &CoreMap, slot| map.owns(slot) && map.core_of(slot) == self.here;
        let mut came = SlotSet::empty();
        for slot in Slot::all() {
            match (is_here(&before, slot), is_here(&self.cores, slot)) {
                (true, false) if view.core_before(slot) == Some(self.here) => {
                    self.kept.insert(slot);
                }
                (true, false) => self.leaving.push_back(slot),
                (false, true) if view.has_come(slot) => came.insert(slot),
                _ => {}
            }
        }
        for slot in &self.leaving {
            if self.cores.core_of(*slot) == self.here {
                self.cores.disown(*slot);
            }
        }
        self.served = self.cores.slots_of(self.here).len();
        self.epoch = view.short_epoch();
        self.cluster = Some(view);
        came
    }

    /// The slots that were kept are emptied from now on.
    pub(crate) fn let_go(&mut self) {
        self.leaving.extend(std::mem::replace(&mut self.kept, SlotSet::empty()).iter());
    }

    /// Empties a slot of this core, which serves it again after that.
    pub(crate) fn empty(&mut self, slot: Slot) {
        if !self.leaving.contains(&slot) {
            self.leaving.push_back(slot);
            self.cores.disown(slot);
            self.served -= 1;
        }
    }

    /// What is to be done about a request for what a slot still holds that has left.
    pub(crate) fn left(&self, slot: Slot) -> Left {
        let Some(view) = self.cluster.as_ref().filter(|view| !view.cores().owns(slot)) else {
            return Left::NotYet;
        };
        match view.core_before(slot) {
            Some(core) if core != self.here => Left::Core(core),
            Some(_) if self.kept.contains(slot) => Left::Here,
            _ => Left::Gone,
        }
    }

    /// The core that executes requests for a slot of another node in the owner's place; none
    /// where the slot is this node's, or what is left of it here was not emptied yet.
    pub(crate) fn in_place(&self, slot: Slot) -> Option<Core> {
        let is_foreign = self.cluster.as_ref().is_some_and(|view| !view.cores().owns(slot));
        let core = self.cores.core_of(slot);
        (is_foreign && (core != self.here || !self.has_rest_of(slot))).then_some(core)
    }

    /// Whether this core may have entries left of a slot that it does not serve.
    pub(crate) fn has_rest_of(&self, slot: Slot) -> bool {
        self.kept.contains(slot) || self.leaving.contains(&slot)
    }

    /// Whether this core stands in for the owner of a slot, of which it may have entries from now on.
    pub(crate) fn stand_in(&mut self, slot: Slot) -> bool {
        let stands_in = self.in_place(slot) == Some(self.here);
        if stands_in {
            self.stood_in.insert(slot);
        }
        stands_in
    }

    /// Replaces a request's epoch by this node's, which its reply then carries. Whether the
    /// sender routed by another: then it does not know either for whom the node may stand in.
    #[inline]
    pub(crate) fn put_epoch(&self, head: &mut RequestHead) -> bool {
        let routed_by = std::mem::replace(&mut head.epoch, self.epoch);
        if routed_by != self.epoch {
            head.stand_in = StandIn::No;
        }
        routed_by != self.epoch && routed_by != ShortEpoch::default()
    }

    /// The cluster as it is known here.
    pub(crate) fn cluster(&self) -> Option<&ClusterView> {
        self.cluster.as_deref()
    }

    pub(crate) fn epoch(&self) -> ShortEpoch {
        self.epoch
    }

    /// The core map of the node, as a welcome carries it.
    pub(crate) fn core_ranges(&self) -> &[u8] {
        self.cluster.as_ref().map_or(&self.even_ranges, |view| view.core_ranges())
    }

    /// The topology as it is sent, where there is one after this epoch.
    pub(crate) fn table_after(&self, epoch: u64) -> Option<&[u8]> {
        let view = self.cluster.as_ref().filter(|view| view.topology().epoch().0 > epoch)?;
        Some(view.table())
    }

    /// Where requests for a slot belong that this core does not serve; nothing where that is on
    /// this node all the same: the slot is not empty yet, or this core or the one that passed the
    /// request on has yet to hear of the last topology.
    pub(crate) fn redirect(&self, slot: Slot) -> Option<Redirect<'_>> {
        let view = self.cluster.as_ref().filter(|view| !view.cores().owns(slot))?;
        Some(view.redirect(slot))
    }

    /// Empties slots that have left, a slice of them.
    pub(crate) fn drop_leaving(
        &mut self,
        executor: &mut Executor,
        now: MonotonicUs,
    ) -> TickOutcome {
        let mut entries = LEAVING_ENTRIES;
        for _ in 0..LEAVING_SLOTS {
            let Some(&slot) = self.leaving.front() else { return TickOutcome::Idle };
            let (removed, outcome) = executor.empty_slot(slot, entries, now);
            entries -= removed.min(entries);
            if outcome == TickOutcome::More || entries == 0 {
                return TickOutcome::More;
            }
            self.leaving.pop_front();
            let ours_again = |view: &Arc<ClusterView>| {
                view.cores().owns(slot) && view.cores().core_of(slot) == self.here
            };
            if self.cluster.as_ref().is_none_or(ours_again) {
                self.cores.adopt(slot, self.here);
                self.served += 1;
            }
        }
        if self.leaving.is_empty() { TickOutcome::Idle } else { TickOutcome::More }
    }

    /// Brings the gauges up to date.
    pub(crate) fn count(&self, counters: &mut Counters) {
        counters.topology_epoch = self.cluster.as_ref().map_or(0, |view| view.topology().epoch().0);
        counters.slots_owned = self.served as u64;
        counters.slots_leaving = self.leaving.len() as u64;
        counters.slots_kept = self.kept.len() as u64;
    }
}
