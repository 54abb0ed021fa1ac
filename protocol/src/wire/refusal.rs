//! Why bytes are not a request, a request cannot be encoded, or bytes are not a reply.

use std::fmt;

use crate::model::{KeysError, Status};

/// Why a frame is refused. The sender is at fault in every case, and nothing was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The first byte is not [`crate::wire::REQUEST_MAGIC`]. Ends the connection.
    NotAFrame,
    /// The frame is longer than this connection may send at all. Ends the connection.
    FrameTooLong,
    /// The request id is [`crate::limits::NOTICE_ID`]. Ends the connection, since no
    /// answer could be told from a notice.
    ReservedId,

    /// No request has this opcode.
    UnknownOpcode(u8),
    /// A flag bit that has no meaning is set.
    UnknownFlags,
    /// A request that only reads asks not to be answered.
    NoReplyToRead,
    /// Options and key are longer than the body they are in.
    LengthsContradict,
    /// The key is over the limit.
    KeyTooLong,
    /// The value is over the limit.
    ValueTooLarge,
    /// This request has no key section.
    UnexpectedKey,
    /// The value section has not the length that this request gives it.
    ValueLength,
    /// The value section does not say anything that this request knows.
    ValueContent,
    /// The keys of a multi-get.
    Keys(KeysError),
    /// The hello's token is over the limit or cut short.
    Token,
    /// The last option ends after the options do.
    OptionCutShort,
    /// An option has not the length of its tag.
    OptionLength(u8),
    /// An option comes twice.
    OptionRepeated(u8),
    /// An option has no meaning for this request.
    OptionMisplaced,
    /// The condition is unknown, or not one of this request's.
    UnknownCondition,
    /// A time to live that is not in milliseconds cannot be spread.
    SpreadWithoutTtl,
}

impl Refusal {
    /// The status that the sender is answered with.
    pub fn status(self) -> Status {
        match self {
            Refusal::NotAFrame => Status::Garbled,
            Refusal::FrameTooLong => Status::FrameTooLong,
            Refusal::UnknownOpcode(_) => Status::UnknownRequest,
            Refusal::KeyTooLong | Refusal::Keys(KeysError::KeyTooLong) => Status::KeyTooLong,
            Refusal::ValueTooLarge => Status::ValueTooLarge,
            Refusal::ReservedId
            | Refusal::UnknownFlags
            | Refusal::NoReplyToRead
            | Refusal::LengthsContradict
            | Refusal::UnexpectedKey
            | Refusal::ValueLength
            | Refusal::ValueContent
            | Refusal::Keys(_)
            | Refusal::Token
            | Refusal::OptionCutShort
            | Refusal::OptionLength(_)
            | Refusal::OptionRepeated(_)
            | Refusal::OptionMisplaced
            | Refusal::UnknownCondition
            | Refusal::SpreadWithoutTtl => Status::Invalid,
        }
    }

    /// The same in words for a person, as it stands in the answer.
    pub fn message(self) -> &'static str {
        match self {
            Refusal::NotAFrame => "not a frame of this protocol",
            Refusal::FrameTooLong => "the frame is longer than allowed",
            Refusal::ReservedId => "request id 0xFFFFFFFF is reserved for notices",
            Refusal::UnknownOpcode(_) => "unknown opcode",
            Refusal::UnknownFlags => "unknown flag bits",
            Refusal::NoReplyToRead => "only writes may go unanswered",
            Refusal::LengthsContradict => "options and key are longer than the body",
            Refusal::KeyTooLong => "the key is longer than allowed",
            Refusal::ValueTooLarge => "the value is longer than allowed",
            Refusal::UnexpectedKey => "this request takes no key",
            Refusal::ValueLength => "the value section has the wrong length",
            Refusal::ValueContent => "the value section makes no sense",
            Refusal::Keys(KeysError::Truncated) => "the key list is cut short",
            Refusal::Keys(KeysError::Count) => "too many keys, or none",
            Refusal::Keys(KeysError::KeyTooLong) => "a key is longer than allowed",
            Refusal::Keys(KeysError::TooLong) => "the key list is longer than allowed",
            Refusal::Token => "the token is longer than allowed, or cut short",
            Refusal::OptionCutShort => "the options are cut short",
            Refusal::OptionLength(_) => "an option has the wrong length",
            Refusal::OptionRepeated(_) => "an option is repeated",
            Refusal::OptionMisplaced => "an option has no meaning for this request",
            Refusal::UnknownCondition => "unknown condition",
            Refusal::SpreadWithoutTtl => "only a time to live in milliseconds can be spread",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.message())
    }
}

impl std::error::Error for Refusal {}

/// Why a request has no encoding. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum EncodeError {
    /// Over [`crate::limits::KEY_BYTES_MAX`].
    #[error("the key is longer than 16384 bytes")]
    KeyTooLong,
    /// Over [`crate::limits::VALUE_BYTES_MAX`].
    #[error("the value is longer than 64 MiB")]
    ValueTooLarge,
    /// Over [`crate::limits::TOKEN_BYTES_MAX`].
    #[error("the token is longer than 1024 bytes")]
    TokenTooLong,
    /// Over [`crate::wire::TTL_MS_MAX`].
    #[error("the time to live is out of range")]
    TtlTooLong,
    /// [`crate::limits::NOTICE_ID`].
    #[error("request id 0xFFFFFFFF is reserved for notices")]
    ReservedId,
    /// 0xFFFF says "any core" in a hello.
    #[error("core 65535 is reserved")]
    ReservedCore,
    /// [`crate::Answer::Never`] on a request that only reads.
    #[error("only writes may go unanswered")]
    NoReplyToRead,
    /// Only the cores of a node send each other such a request.
    #[error("the request has no form in the native protocol")]
    BetweenCores,
}

/// Why bytes are not a reply. A client can only close: it cannot know what else is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ReplyError {
    /// The first byte is not [`crate::wire::REPLY_MAGIC`].
    #[error("not a reply of this protocol")]
    NotAReply,
    /// The body is longer than the client allows.
    #[error("the reply is longer than allowed")]
    TooLong,
    /// No status has this number.
    #[error("unknown status {0:#04x}")]
    UnknownStatus(u8),
    /// No kind has this number.
    #[error("unknown kind of reply {0:#04x}")]
    UnknownKind(u8),
    /// The status is not one that this kind can have.
    #[error("status {0:?} contradicts the kind of reply")]
    StatusContradictsKind(Status),
    /// The options are cut short, of a wrong length, repeated or misplaced.
    #[error("the reply's options are malformed")]
    Options,
    /// The payload has not the form of its kind.
    #[error("the reply's payload is malformed")]
    Payload,
}
