//! What one core counts. One plain struct a core, written by that core alone; one
//! catalogue gives every counter its name and help text; others read by snapshot.

/// Whether a number only grows or goes both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterKind {
    /// Only grows, from 0 at start.
    Counter,
    /// The present value of something.
    Gauge,
}

/// Name and meaning of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterInfo {
    /// In snake case, without prefix; units last.
    pub name: &'static str,
    /// One sentence for an operator.
    pub help: &'static str,
    /// Counter or gauge.
    pub kind: CounterKind,
}

macro_rules! counters {
    ($($kind:ident $name:ident $help:literal;)*) => {
        /// The numbers of one core, in the order of [`CATALOGUE`].
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $(#[doc = $help] pub $name: u64,)*
        }

        /// Every number's name, meaning and kind.
        pub const CATALOGUE: &[CounterInfo] = &[
            $(CounterInfo {
                name: stringify!($name),
                help: $help,
                kind: CounterKind::$kind,
            },)*
        ];

        impl Counters {
            /// Requests executed on this core.
            pub fn executed(&self) -> u64 {
                self.requests_get + self.requests_set + self.requests_delete + self.requests_other
            }

            /// The numbers in the order of [`CATALOGUE`].
            pub fn values(&self) -> [u64; CATALOGUE.len()] {
                [$(self.$name,)*]
            }
        }
    };
}

counters! {
    Counter connections_opened "Connections that this core took over, from a listener or from another core.";
    Counter connections_closed "Connections that this core closed.";
    Counter connections_refused "Connections refused because the node had as many as it may.";
    Counter connections_handed_over "Connections passed to the core that their hello named.";
    Counter connections_steered "Connections that are on the core that their hello named; the others named none.";
    Gauge connections_open "Connections open on this core.";
    Gauge connections_paused "Connections not being read because their output or forwarded requests wait.";
    Counter bytes_received "Bytes received from connections.";
    Counter bytes_sent "Bytes handed to the kernel for connections.";
    Counter requests "Requests executed on this core.";
    Counter requests_get "Keys read by get, multi-get and get-and-touch, executed on this core.";
    Counter requests_set "Sets executed on this core.";
    Counter requests_delete "Deletes executed on this core.";
    Counter requests_other "Other requests executed on this core.";
    Counter hits "Reads that found an entry.";
    Counter misses "Reads that found none.";
    Counter failures "Requests answered with an error status.";
    Counter too_late "Requests not executed because their deadline had passed.";
    Counter busy "Requests with a deadline refused because they had queued too long.";
    Gauge queue_delay_us "How long the first request of the last turn had queued, in microseconds.";
    Counter deferrals "Times a connection had more for one turn than its share.";
    Counter unauthorized "Connections closed for lack of the token.";
    Counter garbled "Connections closed because their bytes were not frames.";
    Counter idle_closed "Connections closed because half a frame or a hello stayed away too long.";
    Counter turned_away "Requests for slots of other nodes, or being emptied, answered with where to go.";
    Counter asked "Misses on slots that came a short time ago, answered with the node that had them.";
    Counter warmed "Entries copied from the node that had their slot before.";
    Counter stood_in "Requests for slots of other nodes that were executed in place of their owners.";
    Counter stale_epochs "Requests whose sender routed by another topology than this node's.";
    Gauge topology_epoch "Epoch of the topology in force; 0 without one.";
    Gauge slots_owned "Slots that this core serves.";
    Gauge slots_leaving "Slots that have left this core and are being emptied.";
    Gauge slots_kept "Slots that have left this core and are kept for a while, for their new owners' clients.";
    Counter forwarded_out "Requests passed to the core that owns their key.";
    Counter forwarded_in "Requests executed for connections of other cores.";
    Counter mail_sent "Messages put on lanes to other cores.";
    Counter mail_received "Messages taken from lanes of other cores.";
    Counter wakes_sent "Times a sleeping core was woken to read its mail.";
    Counter turns "Turns of the event loop.";
    Counter turns_idle "Turns in which nothing had happened.";
    Counter receive_buffers_exhausted "Times a receive ended for want of a free buffer.";
    Counter submissions_delayed "Operations that found the submission queue full, and waited.";
    Counter completions_withheld "Turns in which more had completed than the completion queue holds.";
    Counter sends_short "Sends of which the socket took a part only, and the rest later.";
    Counter system_calls "System calls of the event loop that wait or submit.";
    Counter accept_pauses "Times accepting paused because it failed (out of file descriptors, say).";
    Gauge output_bytes_pending "Reply bytes waiting to be sent.";
    Counter uploads "Large values taken piece by piece.";
    Gauge upload_bytes_promised "Announced bytes of the large values being received.";
    Gauge connections_deferred "Connections that have had their share of the turn and have more.";
    Gauge input_bytes_promised "Bytes that connections in the middle of a long frame may hold.";
    Gauge input_bytes_held "Bytes of half frames, of connections that hold little.";
    Gauge backlog_bytes "Bytes of requests that wait for room for their replies, or for their turn.";
    Counter inputs_refused "Connections closed because too much had arrived that could not be dealt with: half frames, or requests behind unread replies.";
    Gauge items "Entries held.";
    Gauge memory_budget_bytes "What this core's shard may hold.";
    Gauge memory_used_bytes "What this core's shard holds: entries, index, wheel and ghosts.";
    Gauge items_with_expiry "Entries held that have an expiry.";
    Gauge memory_payload_bytes "Keys and values held.";
    Gauge memory_slack_bytes "Pages of entries less keys and values in them: headers, rounding, free room.";
    Gauge memory_compaction_debt_bytes "Free room in pages of entries, which compaction could win back.";
    Gauge memory_index_bytes "The index: its pages and fixed tables.";
    Gauge memory_timers_bytes "The timer wheel's pages.";
    Gauge memory_policy_bytes "What the policy remembers: probation queue and ghost.";
    Gauge memory_large_bytes "Pages of large values.";
    Counter evictions "Entries evicted, for whatever reason.";
    Counter evictions_by_policy "Entries evicted as the policy's next candidates.";
    Counter evictions_with_page "Entries evicted, by the policy's leave, with the page that they were in.";
    Counter evictions_in_haste "Entries evicted unasked with a page that had to be emptied at once.";
    Counter evictions_by_budget "Entries evicted because the memory was lowered.";
    Counter evicted_bytes "Keys and values evicted.";
    Gauge eviction_probation_ms "How old entries are that are evicted unused (policy s3).";
    Gauge eviction_round_ms "How long the last round of the clock hand took: what nobody used for so long goes.";
    Counter expirations "Entries removed because their time had come.";
    Counter expirations_on_access "Of these, those that a write or an eviction came upon.";
    Counter expirations_by_timer "Of these, those that their timer removed.";
    Counter written_bytes "Keys and values written.";
    Counter moved_bytes "Bytes of entries moved by compaction.";
    Counter out_of_memory "Writes refused for want of memory.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_follow_the_catalogue() {
        let counters = Counters { connections_opened: 1, out_of_memory: 7, ..Counters::default() };
        let values = counters.values();
        assert_eq!(values.len(), CATALOGUE.len());
        assert_eq!((values[0], values[values.len() - 1]), (1, 7));
        assert_eq!(CATALOGUE[0].name, "connections_opened");
    }

    #[test]
    fn names_are_unique_and_snake_case() {
        let mut names: Vec<_> = CATALOGUE.iter().map(|info| info.name).collect();
        assert!(names.iter().all(|n| n.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
