//! The effects of the engine on its surroundings.

use corelane_ring::Core;

use crate::{ConnectionId, Mail, Packet};

/// How a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// At once; input that was not read may destroy replies still in flight.
    Now,
    /// Shut the write side down, read and drop input until the peer closes (or the engine
    /// asks for [`Closing::Now`]).
    Drained,
}

/// What the engine asks of the world. None of the calls may fail: what cannot be done is
/// reported later as an input (a send that ended badly, a connection that closed).
pub trait Output {
    /// Sends a whole packet; [`crate::Engine::sent`] brings it back. The engine has at
    /// most one send a connection under way.
    fn send(&mut self, connection: ConnectionId, packet: Packet);

    /// A number that grows while the peer of a connection takes what is sent to it, or `None`
    /// where the world cannot tell. Asked for when a send takes long.
    fn taken_by_peer(&mut self, connection: ConnectionId) -> Option<u64>;

    /// Stops reading. Bytes already on their way may still arrive.
    fn pause(&mut self, connection: ConnectionId);

    /// Reads again.
    fn resume(&mut self, connection: ConnectionId);

    /// Closes; [`crate::Engine::closed`] follows once.
    fn close(&mut self, connection: ConnectionId, how: Closing);

    /// Stops reading for good so that the connection can move to another core;
    /// [`crate::Engine::detached`] follows once, or [`crate::Engine::closed`].
    fn detach(&mut self, connection: ConnectionId);

    /// Puts mail on the lane to another core. The engine's credits keep every lane from
    /// filling up (see [`crate::limits::MAIL_CREDITS`]).
    fn mail(&mut self, to: Core, mail: Mail);
}
