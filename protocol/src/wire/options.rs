//! Options: tag (1 byte), length (1 byte), value; skipped by length when the tag is unknown.
//! Most frames have none, so everything here is off the hot path.

use crate::model::StandIn;
use crate::wire::layout::{condition, tag};
use crate::wire::refusal::Refusal;

/// A set of option tags, by the bit of their number. Tags of 64 and more are never known.
pub(crate) type TagSet = u64;

/// The set of one tag.
pub(crate) const fn only(tag: u8) -> TagSet {
    assert!(tag < 64);
    1 << tag
}

/// Options as they were read. A field whose tag is absent is `None`; [`Options::seen`] says
/// which were there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    pub(crate) seen: TagSet,
    pub(crate) deadline: Option<u64>,
    pub(crate) ttl: Option<u64>,
    pub(crate) user_flags: Option<u32>,
    pub(crate) condition: Option<Condition>,
    pub(crate) least_version: Option<u64>,
    pub(crate) initial: Option<u64>,
    pub(crate) part: Option<u16>,
    pub(crate) stand_in: StandIn,
    pub(crate) space: Option<u8>,
    pub(crate) version: Option<u64>,
    pub(crate) retry_after_us: Option<u32>,
}

/// A condition, before it is known whether the request may have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Absent,
    Present,
    ValueIs,
    VersionIs(u64),
    NewerThan(u64),
    Untouched,
}

impl Options {
    /// Reads a block of options.
    ///
    /// # Errors
    /// [`Refusal::OptionCutShort`], [`Refusal::OptionLength`], [`Refusal::OptionRepeated`] or
    /// [`Refusal::UnknownCondition`].
    pub(crate) fn parse(mut block: &[u8]) -> Result<Options, Refusal> {
        let mut options = Options::default();
        while let Some((&tag, rest)) = block.split_first() {
            let (&length, rest) = rest.split_first().ok_or(Refusal::OptionCutShort)?;
            let (value, rest) =
                rest.split_at_checked(usize::from(length)).ok_or(Refusal::OptionCutShort)?;
            options.take(tag, value)?;
            block = rest;
        }
        Ok(options)
    }

    fn take(&mut self, tag: u8, value: &[u8]) -> Result<(), Refusal> {
        match tag {
            tag::DEADLINE => self.deadline = Some(u64_of(tag, value)?),
            tag::TTL => self.ttl = Some(u64_of(tag, value)?),
            tag::USER_FLAGS => self.user_flags = Some(u32_of(tag, value)?),
            tag::CONDITION => self.condition = Some(Condition::parse(value)?),
            tag::LEAST_VERSION => self.least_version = Some(u64_of(tag, value)?),
            tag::INITIAL => self.initial = Some(u64_of(tag, value)?),
            tag::PART => self.part = Some(u16_of(tag, value)?),
            tag::STAND_IN => match value {
                [] => self.stand_in = StandIn::Yes,
                _ => return Err(Refusal::OptionLength(tag)),
            },
            tag::SPACE => {
                let &[space] = value else { return Err(Refusal::OptionLength(tag)) };
                self.space = Some(space);
            }
            tag::VERSION => self.version = Some(u64_of(tag, value)?),
            tag::RETRY_AFTER => self.retry_after_us = Some(u32_of(tag, value)?),
            _ => return Ok(()),
        }
        if self.seen & only(tag) != 0 {
            return Err(Refusal::OptionRepeated(tag));
        }
        self.seen |= only(tag);
        Ok(())
    }
}

impl Condition {
    fn parse(value: &[u8]) -> Result<Condition, Refusal> {
        let (&kind, rest) = value.split_first().ok_or(Refusal::OptionLength(tag::CONDITION))?;
        let bare = |condition: Condition| match rest {
            [] => Ok(condition),
            _ => Err(Refusal::OptionLength(tag::CONDITION)),
        };
        match kind {
            condition::ABSENT => bare(Condition::Absent),
            condition::PRESENT => bare(Condition::Present),
            condition::VALUE_IS => bare(Condition::ValueIs),
            condition::UNTOUCHED => bare(Condition::Untouched),
            condition::VERSION_IS => Ok(Condition::VersionIs(u64_of(tag::CONDITION, rest)?)),
            condition::NEWER_THAN => Ok(Condition::NewerThan(u64_of(tag::CONDITION, rest)?)),
            _ => Err(Refusal::UnknownCondition),
        }
    }
}

fn u64_of(tag: u8, value: &[u8]) -> Result<u64, Refusal> {
    Ok(u64::from_le_bytes(value.try_into().map_err(|_| Refusal::OptionLength(tag))?))
}

fn u32_of(tag: u8, value: &[u8]) -> Result<u32, Refusal> {
    Ok(u32::from_le_bytes(value.try_into().map_err(|_| Refusal::OptionLength(tag))?))
}

fn u16_of(tag: u8, value: &[u8]) -> Result<u16, Refusal> {
    Ok(u16::from_le_bytes(value.try_into().map_err(|_| Refusal::OptionLength(tag))?))
}

/// Bytes of all options that one frame of this version can have together: deadline (2+8),
/// TTL (2+8), user flags (2+4), condition (2+9), least version (2+8), initial value (2+8),
/// part (2+2), stand in (2), space (2+1). A reply's are fewer.
const WRITTEN_BYTES_MAX: usize = 10 + 10 + 6 + 11 + 10 + 10 + 4 + 2 + 3;
const _: () = assert!(WRITTEN_BYTES_MAX <= crate::limits::OPTIONS_BYTES_MAX);

/// Appends one option.
#[inline]
pub(crate) fn push_option<const N: usize>(out: &mut Vec<u8>, tag: u8, value: &[u8; N]) {
    out.extend_from_slice(&[tag, N as u8]);
    out.extend_from_slice(value);
}

/// Appends a condition option.
pub(crate) fn push_condition(out: &mut Vec<u8>, condition: Condition) {
    let (kind, version) = match condition {
        Condition::Absent => (condition::ABSENT, None),
        Condition::Present => (condition::PRESENT, None),
        Condition::ValueIs => (condition::VALUE_IS, None),
        Condition::VersionIs(version) => (condition::VERSION_IS, Some(version)),
        Condition::NewerThan(version) => (condition::NEWER_THAN, Some(version)),
        Condition::Untouched => (condition::UNTOUCHED, None),
    };
    match version {
        None => push_option(out, tag::CONDITION, &[kind]),
        Some(version) => {
            let mut value = [kind; 9];
            value[1..].copy_from_slice(&version.to_le_bytes());
            push_option(out, tag::CONDITION, &value);
        }
    }
}
