//! The engine's limits, and the worst case they add up to.
//!
//! Bytes that one core may hold for its connections, beyond its shard:
//!
//! ```text
//!   output                      output_bytes_total_max (configured)
//!                               + connections × (OUTPUT_BYTES_SCARCE + one reply)
//! + half frames                 2 × input_bytes_total_max (configured)
//! + requests behind replies     2 × backlog_bytes_total_max (configured), one half in even shares
//!                               + the driver's receive buffers, once
//! + forwarded requests          connections × (FORWARD_BYTES_MAX + one frame)
//! + mail under way              cores × MAIL_CREDITS × 2 × (MAIL_REPLY_BYTES_MAX + one reply)
//! + watched keys                WATCHED_KEYS_MAX × 40
//! ```
//!
//! Within the shard's budget, values being received take at most 1/UPLOADS_SHARE of it, or are
//! a single one.
//!
//! "Full" always means the same thing: the connection is not read until there is room.

/// Requests that are known before their turn.
pub const LOOKAHEAD: usize = 64;

/// How many requests before its turn the line of the index is asked for in which a key's word is.
pub const LOOKAHEAD_INDEX: usize = 12;

/// The same for the first lines of its entry, which that word leads to.
pub const LOOKAHEAD_ENTRIES: usize = 8;

/// The same where the word is in the next line of the index, which had to be asked for first.
pub const LOOKAHEAD_SECOND_LINES: usize = 5;

/// The same for the rest of its entry.
pub const LOOKAHEAD_VALUES: usize = 3;

/// Reply bytes at which the requests of a connection wait while the core's total is used up.
pub const OUTPUT_BYTES_SCARCE: usize = 16 << 10;

/// Bytes of a value from which it is sent from where it is stored, if it is stored in chunks.
/// A shorter one is copied, like all that is stored in one piece. Lending begins to pay here: beside
/// a cache that copies, a read of 16 KiB costs × 0.98, of 32 KiB × 0.94, of 64 KiB × 0.79, where one
/// of 8 KiB, copied here too, costs × 1.08 (`corelane-bench compare --copying`; pipeline 4).
pub const LEASE_BYTES_MIN: usize = 16 << 10;

/// Bytes of a frame from which a set is taken piece by piece: its value goes into the shard as
/// it comes, which makes room in slices. Shorter ones are collected, since any connection may have
/// so much.
pub const UPLOAD_BYTES_MIN: usize = INPUT_BYTES_SMALL + 1;

/// Which part of its budget the values may take that a shard receives piece by piece at a time,
/// by their announced lengths: one in so many.
pub const UPLOADS_SHARE: u64 = 4;

/// Microseconds that a request with a deadline may queue while the queue is never empty, and
/// microseconds for which it must not have been empty for that to hold. The values are those of
/// RFC 8289, section 4.2 and 4.3.
pub const QUEUE_TARGET_US: u64 = 5_000;
/// See [`QUEUE_TARGET_US`].
pub const QUEUE_INTERVAL_US: u64 = 100_000;

/// Bytes that one connection may have dealt with in one turn, before others have had theirs:
/// enough for any pipeline of small requests, and one connection's share of a turn is below
/// a millisecond.
pub const TURN_BYTES: usize = 64 << 10;

/// The same while the core is overloaded: so are those slowed who cannot be told to come back.
pub const TURN_BYTES_OVERLOADED: usize = 8 << 10;

/// Bytes of one value that are stored in one turn.
pub const UPLOAD_BYTES_A_TURN: usize = 64 << 10;

/// Bytes that any connection may have received and not have dealt with: the front of the
/// longest frame. More must be admitted, while less than the total
/// ([`crate::EngineConfig::input_bytes_total_max`]) is.
pub const INPUT_BYTES_SMALL: usize = 16 + 255 + 16_384;

/// Bytes of a value that must arrive within the idle limit, again and again.
pub const UPLOAD_PROGRESS_BYTES: usize = 64 << 10;

/// Leased bytes that one send carries, before its last piece: large values go out in so many
/// sends, and a send has few pieces (a piece is up to 64 KiB).
pub const PACKET_LEASED_BYTES: usize = 512 << 10;

/// Bytes of requests of one connection waiting to be forwarded, at which its requests wait.
pub const FORWARD_BYTES_MAX: usize = 256 << 10;

/// Reply bytes of a connection from which they do not wait for a batch at another core.
pub const REPLIES_HELD_BYTES: usize = 16 << 10;

/// Requests of one connection that several cores take part in, under way at a time: finding
/// one is a walk over them.
pub const SERIES_MAX: usize = 256;

/// Reply bytes that one forwarded batch may produce before the rest of its requests is
/// handed back unexecuted.
pub const MAIL_REPLY_BYTES_MAX: usize = 256 << 10;

/// Batches that a core may have under way at one other core. A lane has
/// [`MAIL_LANE_SLOTS`]; requests and replies of both directions share it, so with twice
/// this number, and room for connections being handed over, engine mail never finds it full.
pub const MAIL_CREDITS: usize = 96;

/// Commands of one dialect connection whose replies are outstanding, at which it waits.
pub const PENDING_COMMANDS_MAX: usize = 1_024;

/// Bytes of keys at which the answer to `KEYS` becomes an error.
pub const WALK_ANSWER_BYTES_MAX: usize = 64 << 20;

/// Entries that one step of a walk over the keys looks at, whatever was asked for: a step must
/// not hold up its core.
pub const WALK_ENTRIES_MAX: u32 = 1_000;

/// Keys of one slot that are told at a time.
pub const SLOT_KEYS_MAX: u32 = 10_000;

/// Places that are looked at for some key of a space before all keys are walked over.
pub const RANDOM_KEY_STEPS_MAX: usize = 64;

/// Slots of a lane, as the mesh must have them at least.
pub const MAIL_LANE_SLOTS: usize = 256;

/// Bytes that a connection may send before it has proved the token.
pub const UNAUTHORIZED_BYTES_MAX: usize = 16 << 10;

/// Entries removed in one tick from slots that have left, and slots looked at for them.
pub const LEAVING_ENTRIES: usize = 64;
/// See [`LEAVING_ENTRIES`].
pub const LEAVING_SLOTS: usize = 64;

/// Bits that tell which keys of slots that came were touched since: 128 KiB a core, for as long as
/// slots are warmed. With 100,000 keys written meanwhile, one in eleven others counts as written.
pub const TOUCHED_BITS: usize = 1 << 20;

/// Connections looked at in one sweep for idle ones.
pub const SWEEP_CONNECTIONS: u32 = 256;

/// Milliseconds between two sweeps.
pub const SWEEP_INTERVAL_MS: u64 = 250;

/// Milliseconds without a new byte after which a draining connection is taken to have
/// sent all it had under way.
pub const DRAIN_QUIET_MS: u64 = 100;

/// Milliseconds that a connection whose last reply is sent may take to close its side.
pub const LINGER_MS_MAX: u64 = 5_000;

/// Buffers kept for the next replies, and the capacity over which one is not kept.
pub const SPARE_BUFFERS: usize = 64;
/// See [`SPARE_BUFFERS`].
pub const SPARE_BUFFER_BYTES_MAX: usize = 64 << 10;

const _: () = assert!(2 * MAIL_CREDITS <= MAIL_LANE_SLOTS - 64);

/// Keys that connections may watch at a time for their transactions, of one core. Beyond them, all
/// transactions that are being put together fail, as if what they watch had changed.
pub const WATCHED_KEYS_MAX: usize = 4_096;
