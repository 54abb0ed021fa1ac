//! Replies for dialects' clients, from here and from other cores, into their commands.

use corelane_dialect::Moment;
use corelane_protocol::MonotonicUs;
use corelane_protocol::wire::{ReplyDecoded, between_cores};

use super::Speech;
use super::order::{Commands, Drained, World};
use crate::connection::Connection;
use crate::dispatch::Dispatcher;
use crate::packet::Leases;

impl Dispatcher {
    /// Takes reply frames of another core for a connection.
    pub(crate) fn landed(
        &mut self,
        connection: &mut Connection,
        mut replies: Vec<u8>,
        leases: &mut Leases,
        now: MonotonicUs,
    ) -> Vec<u8> {
        let mut dialect = connection.dialect.take().expect("it speaks one");
        let moment = self.moment(now);
        let mut replies = whole(&mut replies, leases);
        let commands = &mut dialect.commands;
        self.take_replies(commands, &replies, &mut connection.output, moment);
        connection.walks |= commands.walk_mut().is_some();
        connection.dialect = Some(dialect);
        self.answer_whole(connection, moment);
        replies.clear();
        replies
    }

    /// Gives replies to the commands that wait for them.
    pub(super) fn take_replies(
        &mut self,
        commands: &mut Commands,
        frames: &[u8],
        output: &mut Vec<u8>,
        moment: Moment,
    ) {
        let facts = self.view(None, moment.now);
        let world = World { facts: &facts, moment };
        let mut rest = frames;
        while !rest.is_empty() {
            let ReplyDecoded::Complete { frame, consumed } = between_cores::decode_reply(rest)
            else {
                unreachable!("cores send each other whole replies");
            };
            commands.reply(frame.head.id.0, &frame.head, &frame.reply, world, output);
            rest = &rest[consumed..];
        }
    }

    /// Moves the answers that are ready to the connection's output.
    pub(super) fn answer_whole(&mut self, connection: &mut Connection, moment: Moment) {
        let Some(mut dialect) = connection.dialect.take() else { return };
        if !dialect.commands.is_empty() {
            let mut said = std::mem::take(&mut connection.output);
            let facts = self.view(Some(connection), moment.now);
            let world = World { facts: &facts, moment };
            let Drained { watched, agreed, walks, closes } =
                dialect.commands.drain(world, &mut said);
            connection.output = said;
            if let Speech::Resp(session) = &mut dialect.speech {
                for (place, frame) in watched {
                    if let ReplyDecoded::Complete { frame, .. } =
                        between_cores::decode_reply(&frame)
                    {
                        session.watched(place, &frame.reply);
                    }
                }
                if let Some(agreed) = agreed {
                    session.abandon_transaction(agreed);
                }
            }
            connection.walks |= walks;
            if closes {
                connection.finish();
            }
        }
        connection.dialect = Some(dialect);
    }
}

/// Adds what a command said at once, after whatever waits before it.
pub(super) fn say(connection: &mut Connection, commands: &mut Commands, said: &[u8]) {
    if commands.is_empty() {
        connection.output.extend_from_slice(said);
    } else {
        commands.text().extend_from_slice(said);
        commands.held(said.len());
    }
}

/// Replies in one run, with the large values that were leased copied into their places.
pub(super) fn whole(frames: &mut Vec<u8>, leases: &mut Leases) -> Vec<u8> {
    if leases.bytes() == 0 {
        return std::mem::take(frames);
    }
    let mut run = Vec::with_capacity(frames.len() + leases.bytes());
    while leases.bytes() > 0 || !frames.is_empty() {
        leases.packet(frames).pieces().for_each(|piece| run.extend_from_slice(piece));
    }
    run
}
