//! Those who wait in the middle of their input, and how they go on: once a turn, in the order
//! in which they came, as far as what they wait for is there.

use corelane_protocol::MonotonicUs;
use corelane_ring::Core;

use crate::connection::{Connections, Wait};
use crate::engine::Engine;
use crate::inbound::Batch;
use crate::intake::Admission;
use crate::packet::MailedLeases;
use crate::{ConnectionId, Mail, Output};

impl Engine {
    /// Puts a connection that has begun to wait where it is found again.
    pub(crate) fn enqueue(&mut self, id: ConnectionId, wait: Wait) {
        match wait {
            Wait::No => {}
            Wait::ForRoom => self.wanting_room.push(id),
            Wait::ForTurn => {
                self.counters_mut().deferrals += 1;
                self.wanting_turn.push(id);
            }
            Wait::ForUploads(bytes) => {
                let line = &mut self.dispatcher.executor.uploads;
                shorten(line, &mut self.connections);
                line.wait(id, bytes);
            }
            Wait::ForInput(bytes) => {
                let line = &mut self.dispatcher.inputs;
                shorten(line, &mut self.connections);
                line.wait(id, bytes);
            }
        }
    }

    /// Lets all go on for whom there is what they wait for. Whether some are due again in the
    /// next turn.
    pub(crate) fn let_go_on(&mut self, now: MonotonicUs, output: &mut impl Output) -> bool {
        for id in std::mem::take(&mut self.wanting_room) {
            self.go_on(id, now, output);
        }
        for id in std::mem::take(&mut self.wanting_turn) {
            let turn = self.dispatcher.turn;
            match self.connections.get_mut(id) {
                Some(connection) if connection.turn == turn => self.wanting_turn.push(id),
                _ => self.go_on(id, now, output),
            }
        }
        for _ in 0..self.inbound.parked() {
            let clients = &mut self.connections;
            if let Some(batch) = self.inbound.go_on(&mut self.dispatcher, clients, now) {
                self.answer(batch, output);
            }
        }
        self.dispatcher.executor.uploads.eased = false;
        while let Some(id) = self.dispatcher.executor.uploads.next() {
            self.go_on(id, now, output);
        }
        self.dispatcher.inputs.eased = false;
        while let Some(id) = self.dispatcher.inputs.next() {
            self.go_on(id, now, output);
        }
        let eased = self.dispatcher.executor.uploads.eased || self.dispatcher.inputs.eased;
        eased
            || !self.wanting_room.is_empty()
            || !self.wanting_turn.is_empty()
            || self.inbound.is_due()
    }

    fn go_on(&mut self, id: ConnectionId, now: MonotonicUs, output: &mut impl Output) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.wait = Wait::No;
        self.pump(id, &[], now);
        self.settle(id, now, output);
    }

    /// Answers a batch of another core.
    pub(crate) fn answer(&mut self, batch: Batch, output: &mut impl Output) {
        let Batch { sender: (from, connection), mut frames, done, replies, leases, .. } = batch;
        frames.drain(..done);
        let rest = if frames.is_empty() {
            self.dispatcher.spare.keep(frames);
            Vec::new()
        } else {
            frames
        };
        let leases = (leases.bytes() > 0).then(|| Box::new(MailedLeases(leases)));
        self.counters_mut().mail_sent += 1;
        output.mail(Core(from), Mail::Executed { connection, replies, leases, rest });
    }

    /// Tells other cores of large values whose rest will not come, as far as there are credits.
    pub(crate) fn tell_abandoned(&mut self, output: &mut impl Output) {
        let credits = &mut self.credits;
        let counters = &mut self.dispatcher.executor.counters;
        self.abandoned.retain(|&(to, connection)| {
            if !credits.take(to) {
                return true;
            }
            counters.mail_sent += 1;
            output.mail(Core(to), Mail::Abandon { connection });
            false
        });
    }
}

/// Keeps a line from growing with those who have left while they stood in it: at twice the
/// number of connections they are taken out.
fn shorten(line: &mut Admission, connections: &mut Connections) {
    let waiting_max = 2 * connections.count() as usize;
    line.shorten(waiting_max, |id| {
        connections.get_mut(id).is_some_and(|connection| {
            matches!(connection.wait, Wait::ForUploads(_) | Wait::ForInput(_))
        })
    });
}
