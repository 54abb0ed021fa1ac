//! Large values of dialects' sets. A command is collected until all of it is there, since what is
//! to be done with the value may stand after it; then its value goes to its core as those of
//! native clients do, a piece at a time, so that room for it is made in bounded steps.
//!
//! ```text
//! command ─► front │ value │ rest
//!              │       │      └─ skipped: the step said what it means
//!              │       └─ taken from the connection's input piece by piece
//!              └─ taken at once
//! ```

use corelane_dialect::{Moment, Part};
use corelane_protocol::wire::{SetFront, between_cores};
use corelane_protocol::{Answer, Request, RequestHead, RequestId, Set};

use super::order::Commands;
use super::steps::Target;
use crate::connection::Connection;
use crate::dispatch::Dispatcher;
use crate::intake::{Begun, is_large, may_come_in_pieces};
use crate::receive::Large;

impl Dispatcher {
    /// Begins with a large value, if `part` sets one and there is no reason to do so at once:
    /// it has to be compared or answered with an old one, or too much is on its way already.
    /// Returns how many bytes of the command stand before the value. `text` is the command.
    pub(super) fn begin_collected(
        &mut self,
        connection: &mut Connection,
        commands: &mut Commands,
        part: &Part<'_>,
        text: &[u8],
        moment: Moment,
    ) -> Option<usize> {
        let Request::Set(set) = &part.request else { return None };
        let value_bytes = set.value.len();
        if !is_large(value_bytes) || !may_come_in_pieces(set) {
            return None;
        }
        let front_bytes = place_in(text, set.value)?;
        let after = text.len() - front_bytes - value_bytes;
        let head = match part.head.answer {
            Answer::Never => part.head,
            Answer::Always => RequestHead { id: RequestId(commands.next_serial()), ..part.head },
        };
        let set = Set { value: &[], ..*set };
        let mut replies = Vec::new();
        let large = match self.target_of(&part.request) {
            Target::Here => {
                let front = SetFront { head, set, front_bytes, value_bytes };
                match self.begin_intake(&front, moment.now, &mut replies) {
                    Begun::Yes(intake) => Large::own(intake, after),
                    Begun::NotAdmitted(_) => return None,
                }
            }
            Target::Core(core) => {
                self.executor.counters.forwarded_out += 1;
                let remote = connection.remote.get_or_insert_default();
                let queue = remote.queue_large(core, value_bytes);
                let start = queue.len();
                between_cores::encode_set_front(&head, &set, value_bytes, queue)
                    .expect("what a dialect asks can be encoded");
                let appended = queue.len() - start;
                Large::forwarded(core, value_bytes, appended, after)
            }
            Target::Elsewhere(_) | Target::Nowhere => return None,
        };
        if head.answer == Answer::Always {
            let serial = commands.one(part.shape, part.echo);
            debug_assert_eq!(serial, head.id.0);
            self.take_replies(commands, &replies, &mut connection.output, moment);
        }
        connection.large = Some(large);
        Some(front_bytes)
    }
}

/// Where in `text` the bytes of `part` are, if they are there and not a copy of them.
fn place_in(text: &[u8], part: &[u8]) -> Option<usize> {
    let start = part.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    let end = start.checked_add(part.len())?;
    (end <= text.len()).then_some(start)
}
