//! Every bound and default of the client, in one place.
//!
//! Worst case of one connection, in bytes, with the defaults: requests accepted and not yet
//! taken by the kernel 4 MiB, twice (one batch is being written while the next is filled),
//! 2,048 requests that wait for their reply at about 200 B each, and one incoming frame of
//! at most the node's value limit plus one read of 64 KiB: about 9 MiB with values of 1 MiB.
//! Replies that arrived belong to the futures that asked for them. An idle connection keeps
//! [`READ_BYTES_MIN`] and its task, about 2 KiB together.

use std::time::Duration;

use corelane_protocol::limits::TOPOLOGY_BYTES_MAX;

/// How long a request may take unless something else is asked for.
pub(crate) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);
/// How long opening a connection may take, hello included.
pub(crate) const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);
/// How much later than its deadline a reply may come before the connection counts as broken.
pub(crate) const OVERDUE_DEFAULT: Duration = Duration::from_secs(5);
/// Requests of one connection whose reply has not arrived.
pub(crate) const REQUESTS_IN_FLIGHT_DEFAULT: u32 = 2_048;
/// Bytes of requests of one connection that the kernel has not taken.
pub(crate) const BYTES_QUEUED_DEFAULT: u32 = 4 << 20;

/// Ids carry the place of the waiter in their low bits. The two highest places are never
/// used: the protocol reserves one id (notices), and requests without reply share the other.
pub(crate) const PLACE_BITS: u32 = 24;
/// Places that may be taken at once: requests in flight, and finished ones whose future has
/// neither been polled nor dropped since.
pub(crate) const PLACES_MAX: u32 = (1 << PLACE_BITS) - 2;

/// Room that an idle connection keeps for what may arrive.
pub(crate) const READ_BYTES_MIN: usize = 1 << 10;
/// Room for one read on a busy connection: it doubles up to this while reads fill it.
pub(crate) const READ_BYTES_MAX: usize = 64 << 10;
/// Reads of one turn of a connection's task, so that it cannot starve its neighbours.
pub(crate) const READS_PER_TURN: usize = 8;
/// Replies that are decoded before they are delivered under one taking of the lock.
pub(crate) const REPLIES_AT_ONCE: usize = 128;
/// Values of at least this many bytes share the memory they were received into instead of
/// being copied. A shared value keeps its whole frame and at most one read alive, so for
/// small values copying is what bounds memory.
pub(crate) const SHARED_VALUE_BYTES_MIN: usize = 16 << 10;
/// A write buffer that grew beyond this is given back once it is written.
pub(crate) const WRITE_BYTES_KEPT: usize = 256 << 10;
/// What a request is counted with beside its key and value: header and options.
pub(crate) const REQUEST_OVERHEAD_BYTES: usize = 80;

/// Longest body of the reply to a hello: 16,384 core ranges, the name and what later
/// versions may add.
pub(crate) const WELCOME_BODY_BYTES_MAX: usize = 128 << 10;
/// What a reply's body may have beyond the longest value: options, or a text of counters.
pub(crate) const REPLY_BODY_SLACK_BYTES: usize = 1 << 20;
const _: () = assert!(TOPOLOGY_BYTES_MAX <= REPLY_BODY_SLACK_BYTES);

/// Age at which the mapping to the node's clock is measured again, while there is traffic.
pub(crate) const CLOCK_SAMPLE_AGE_MAX: Duration = Duration::from_secs(10);
/// Drift between two monotonic clocks that is reckoned with: 100 millionths, twice what
/// crystal oscillators are specified for.
pub(crate) const CLOCK_DRIFT_PER_MILLION: u64 = 100;

/// Wait after the first failed attempt to connect; it doubles with each further one.
pub(crate) const BACKOFF_FIRST: Duration = Duration::from_millis(10);
/// Longest wait between attempts to connect.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A connection that broke sooner than this counts as a failed attempt.
pub(crate) const LIFETIME_MIN: Duration = Duration::from_secs(1);

/// Most of the traffic that retries may be, in percent of the requests.
pub(crate) const RETRY_PERCENT: u32 = 10;
/// Retries that may be saved up while none are needed.
pub(crate) const RETRIES_SAVED_MAX: u32 = 100;

/// Failures in a row after which a node of several is taken to be down.
pub(crate) const BREAKER_FAILURES_TO_OPEN: u32 = 5;
/// Answers in a row after which a node that was down is trusted like any other.
pub(crate) const BREAKER_ANSWERS_TO_CLOSE: u32 = 10;
/// Time after which what a node refused weighs half as much.
pub(crate) const THROTTLE_HALF_LIFE: Duration = Duration::from_secs(5);
/// Nodes that may stand in for a slot's owner, in turn.
pub(crate) const STAND_INS: usize = 2;
/// How often a topology is fetched for no more than that a node told another epoch.
pub(crate) const TOPOLOGY_FETCH_INTERVAL: Duration = Duration::from_millis(200);
/// Deletes remembered for one node that is down, and the bytes of their keys. Where a node is owed
/// more, the slots of the others are emptied when it is back.
pub(crate) const DELETES_MAX: usize = 8_192;
/// See [`DELETES_MAX`].
pub(crate) const DELETES_BYTES_MAX: usize = 4 << 20;
/// Remembered deletes that are made at a time.
pub(crate) const DELETES_AT_ONCE: usize = 64;
/// Keys of a multi-get that are copied from the owner before at a time.
pub(crate) const WARMED_AT_ONCE: usize = 64;
/// How often a file or a name of nodes is looked at.
pub(crate) const WATCH_INTERVAL_DEFAULT: Duration = Duration::from_secs(2);
/// Longest file of nodes that is read, in bytes.
pub(crate) const NODES_FILE_BYTES_MAX: u64 = 4 << 20;
