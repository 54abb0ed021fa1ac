//! What an operator sees of a shard.

/// Figures of one shard at one moment. Bytes are bytes; counts run since the shard was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// Entries, those not yet reclaimed after their expiry included.
    pub items: u64,
    /// Of these, how many have an expiry.
    pub items_with_expiry: u64,
    /// What the shard may hold.
    pub budget_bytes: u64,
    /// What it holds: all pages in use and its fixed tables.
    pub used_bytes: u64,
    /// Keys and values.
    pub payload_bytes: u64,
    /// Entry pages less keys and values: headers, rounding, free room in pages.
    pub slack_bytes: u64,
    /// Index pages and tables.
    pub index_bytes: u64,
    /// The timer wheel's pages.
    pub wheel_bytes: u64,
    /// Probation queue and ghost.
    pub policy_bytes: u64,
    /// Pages of large values.
    pub large_bytes: u64,
    /// Bytes of free slots in entry pages, which compaction could win back; part of the slack.
    pub compaction_debt_bytes: u64,
    /// Entries evicted, for whatever reason.
    pub evicted: u64,
    /// Of these, those that were the policy's next candidates when room was needed.
    pub evicted_by_policy: u64,
    /// Those that the policy let go as they lay in a page that was being emptied.
    pub evicted_with_page: u64,
    /// Those that went unasked, as a page had to be emptied in a hurry.
    pub evicted_in_haste: u64,
    /// Those that went because the budget was lowered.
    pub evicted_by_budget: u64,
    /// Payload of these.
    pub evicted_bytes: u64,
    /// Entries found expired by a write or a policy, before the wheel came to them.
    pub expired_on_access: u64,
    /// Entries reclaimed by the wheel.
    pub expired_by_wheel: u64,
    /// Milliseconds from their writing to the end of their probation, of those for which it
    /// ended last (`s3`): the age of what is evicted unused.
    pub probation_ms: u64,
    /// Milliseconds that the clock hand took for its last whole round: what nobody used for
    /// so long goes.
    pub hand_round_ms: u64,
    /// Bytes of entries written.
    pub written_bytes: u64,
    /// Bytes of entries moved by compaction: write amplification is one plus their ratio.
    pub moved_bytes: u64,
    /// Writes refused for want of memory.
    pub refused: u64,
    /// Steps of work beside reading and writing what was asked for: entries evicted, moved and
    /// looked at in pages being emptied, timers, eight groups of the index that a policy looked at,
    /// chunks given back, and leaves rebuilt by eight lines. A step takes about 100 ns, so what
    /// one call adds tells how long it was, whatever else the machine did.
    pub work_steps: u64,
}
