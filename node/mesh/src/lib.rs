//! Mail between the cores of one node: bounded lanes, and the decision whom to wake.
//!
//! Every pair of ends (the data cores, and helpers such as the control thread) has one lane
//! in each direction, with a single producer and a single consumer. Beside the lanes an end
//! has one inbox: a bit for every peer that may have mail for it, so that an idle end looks
//! at two words instead of polling all lanes, and a flag that says that it sleeps.
//!
//! ```text
//! send:   slot ─► lane tail ─► inbox bit ─► asleep?  the one who clears it wakes the peer
//! drain:  inbox bits ─► lanes, in turn, each as far as its tail shows
//! sleep:  asleep := true ─► look at the inbox once more ─► block in the kernel
//! ```
//!
//! Nothing here blocks, allocates after the start, or calls the kernel: waking a peer is the
//! caller's, who knows what the peer sleeps in. A full lane gives the mail back.
//!
//! Modules: [`lane`] carries the mail, [`inbox`] tells of it, [`end`] puts both together.

mod primitive;

mod lane;

mod inbox;

mod end;

pub use end::{Delivery, Drained, End, Mesh, Sleep};

/// Mails that one lane holds unless said otherwise.
///
/// 64 ends have 64 × 63 lanes × 256 slots × 64 bytes = 63 MiB of address space; a slot that
/// was never used costs no memory.
pub const LANE_SLOTS: usize = 256;

/// Largest mail, in bytes: a slot is one cache line, so that writing one mail takes exactly
/// one line away from the peer.
pub const MAIL_BYTES_MAX: usize = 64;

/// Most ends of one mesh: 64 data cores and as many helpers.
pub const ENDS_MAX: usize = 64 * inbox::WORDS;
