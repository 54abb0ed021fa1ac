//! How a protocol writes the generator's two requests and reads what comes back. A codec
//! does no I/O and keeps no request: [`crate::generator`] matches replies to requests, by
//! their id where the protocol has one, else by their order.

pub mod fixed;
pub mod memcached;
pub mod native;
pub mod resp;
mod text;

use std::borrow::Cow;

use corelane_ring::CoreMap;

/// How replies find their requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyOrder {
    /// In any order: every reply carries its request's id.
    ById,
    /// In the order of the requests.
    AsSent,
}

/// What a reply says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// The value of the key asked for.
    Value(&'a [u8]),
    /// There is no such key.
    Missing,
    /// It was written.
    Stored,
    /// It was done, and the protocol has no value to check.
    Unchecked,
    /// It was not done, with the server's words.
    Refused(Cow<'a, str>),
}

/// One reply, and how many bytes of the input it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The request's id, where the protocol carries one.
    pub id: Option<u32>,
    /// What it says.
    pub answer: Answer<'a>,
    /// Bytes from the start of the input to the end of the reply.
    pub length: usize,
}

/// Bytes that are no reply of the protocol; the connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's bytes are not {protocol}: {reason}")]
pub struct CodecError {
    /// The protocol's name.
    pub protocol: &'static str,
    /// What is wrong with them.
    pub reason: String,
}

/// What the server said of itself when the connection was opened.
#[derive(Clone, Debug, Default)]
pub struct Greeting {
    /// The core that serves this connection.
    pub core: u16,
    /// Which core owns which keys, where the protocol tells.
    pub map: Option<CoreMap>,
    /// The longest value the server takes, in bytes, where the protocol tells.
    pub value_bytes_max: Option<usize>,
}

/// What the opening of a connection says to the server.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// The core that shall serve it.
    pub core: Option<u16>,
    /// The access token; empty where there is none.
    pub token: &'a [u8],
}

/// See the module.
pub trait Codec: Send {
    /// How replies find their requests.
    const ORDER: ReplyOrder;

    /// Appends what a connection sends first; nothing where the protocol has no greeting.
    fn open(&mut self, opening: Opening<'_>, output: &mut Vec<u8>);

    /// Reads the answer to [`Codec::open`], with the number of bytes that it took, or
    /// nothing while it is incomplete. Not called where nothing was sent.
    ///
    /// # Errors
    /// The server refuses the connection, or does not speak the protocol.
    fn opened(&mut self, input: &[u8]) -> Result<Option<(Greeting, usize)>, CodecError>;

    /// Appends a request to read a key.
    fn get(&mut self, id: u32, key: &[u8], output: &mut Vec<u8>);

    /// Appends a request to write a key.
    fn set(&mut self, id: u32, key: &[u8], value: &[u8], output: &mut Vec<u8>);

    /// Reads one reply from the start of the input, or nothing while it is incomplete.
    ///
    /// # Errors
    /// The bytes are no reply, or one that ends the connection.
    fn reply<'i>(&mut self, input: &'i [u8]) -> Result<Option<Reply<'i>>, CodecError>;
}
