//! Gets that wait to be looked up together. One by one, each lookup waits for memory
//! three times; looked up as a batch, the shard overlaps those waits (see
//! [`corelane_shard::Shard::get_batch`]).

use corelane_protocol::{ReplyHead, Status};
use corelane_shard::{Key, Millis};

use crate::execute::{Executor, write_entry, write_failure};
use crate::limits::GET_BATCH;

/// Gets of this core's keys, borrowed from the bytes they arrived in.
#[derive(Debug)]
pub(crate) struct GetBatch<'b> {
    keys: [Key<'b>; GET_BATCH],
    heads: [ReplyHead; GET_BATCH],
    /// Where each get began, for the caller to go back to.
    marks: [usize; GET_BATCH],
    count: usize,
}

impl<'b> GetBatch<'b> {
    /// `filler` is any key; it is never looked up.
    pub(crate) fn new(filler: Key<'b>) -> GetBatch<'b> {
        GetBatch {
            keys: [filler; GET_BATCH],
            heads: [ReplyHead::default(); GET_BATCH],
            marks: [0; GET_BATCH],
            count: 0,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count == GET_BATCH
    }

    pub(crate) fn push(&mut self, key: Key<'b>, head: ReplyHead, mark: usize) {
        self.keys[self.count] = key;
        self.heads[self.count] = head;
        self.marks[self.count] = mark;
        self.count += 1;
    }

    /// Looks all of them up and appends their replies to `out`, until that is
    /// `out_bytes_max` long: then the mark of the first get that was not answered.
    pub(crate) fn flush(
        &mut self,
        executor: &mut Executor,
        at: Millis,
        out: &mut Vec<u8>,
        out_bytes_max: usize,
    ) -> Option<usize> {
        let count = std::mem::take(&mut self.count);
        let (keys, heads) = (&self.keys[..count], &self.heads[..count]);
        let mut answered = 0;
        let mut hits = 0;
        let Executor { shard, leases, .. } = executor;
        shard.get_batch(keys, at, |index, entry| {
            // Replies are in order, so the first one without room is where to go on.
            if out.len() + leases.bytes() >= out_bytes_max {
                return;
            }
            answered += 1;
            match entry {
                Some(entry) => {
                    hits += 1;
                    write_entry(&heads[index], &entry, None, out, leases);
                }
                None => write_failure(out, heads[index], Status::NotFound, ""),
            }
        });
        let counters = &mut executor.counters;
        counters.requests_get += answered as u64;
        counters.hits += hits;
        counters.misses += answered as u64 - hits;
        (answered < count).then(|| self.marks[answered])
    }
}
