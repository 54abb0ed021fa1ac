//! A trace in memory: which objects were asked for, in order, and what is known of each.

use std::collections::HashMap;

use super::limit::Limit;
use super::reference::Weights;

/// See the module. Objects are numbered in the order of their first requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    name: String,
    requests: Vec<u32>,
    ids: Vec<u64>,
    /// By object; empty where the trace has no sizes.
    bytes: Vec<u32>,
}

impl Trace {
    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The objects asked for, in order.
    pub fn requests(&self) -> &[u32] {
        &self.requests
    }

    /// What the trace calls the objects.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// How many objects there are.
    pub fn objects(&self) -> usize {
        self.ids.len()
    }

    /// Bytes of each object; nothing where the trace has no sizes.
    pub fn bytes(&self) -> Option<&[u32]> {
        (!self.bytes.is_empty()).then_some(&self.bytes)
    }

    /// What objects weigh under a limit; nothing where the trace does not tell.
    pub fn weights(&self, limit: Limit) -> Option<Weights<'_>> {
        match limit {
            Limit::Entries => Some(Weights::One),
            Limit::Bytes => self.bytes().map(Weights::Each),
        }
    }

    /// The weight of all objects together under a limit; nothing where the trace does not
    /// tell.
    pub fn footprint(&self, limit: Limit) -> Option<u64> {
        match limit {
            Limit::Entries => Some(self.objects() as u64),
            Limit::Bytes => Some(self.bytes()?.iter().map(|bytes| u64::from(*bytes)).sum()),
        }
    }
}

/// A trace that cannot be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// Requests are counted in 32 bits.
    #[error("the trace has more than {REQUESTS_MAX} requests")]
    TooLong,
    /// There is nothing to replay.
    #[error("the trace has no requests")]
    Empty,
}

/// Longest trace: with its index and its next request, about 50 GB.
pub const REQUESTS_MAX: usize = u32::MAX as usize - 1;

/// Makes a trace, request by request.
#[derive(Debug, Default)]
pub struct TraceBuilder {
    numbers: HashMap<u64, u32>,
    requests: Vec<u32>,
    ids: Vec<u64>,
    bytes: Vec<u32>,
}

impl TraceBuilder {
    /// Adds a request for an object without size.
    ///
    /// # Errors
    /// The trace is too long.
    pub fn push(&mut self, id: u64) -> Result<(), TraceError> {
        self.number(id).map(drop)
    }

    /// Adds a request for an object with its size in bytes. An object keeps the size of its
    /// first request, and has at least one byte.
    ///
    /// # Errors
    /// The trace is too long.
    pub fn push_sized(&mut self, id: u64, bytes: u32) -> Result<(), TraceError> {
        if self.number(id)? as usize == self.bytes.len() {
            self.bytes.push(bytes.max(1));
        }
        Ok(())
    }

    /// The trace, with a name.
    ///
    /// # Errors
    /// It is empty.
    pub fn finish(self, name: String) -> Result<Trace, TraceError> {
        if self.requests.is_empty() {
            return Err(TraceError::Empty);
        }
        let TraceBuilder { requests, ids, bytes, .. } = self;
        Ok(Trace { name, requests, ids, bytes })
    }

    fn number(&mut self, id: u64) -> Result<u32, TraceError> {
        if self.requests.len() == REQUESTS_MAX {
            return Err(TraceError::TooLong);
        }
        let next = self.ids.len() as u32;
        let number = *self.numbers.entry(id).or_insert(next);
        if number == next {
            self.ids.push(id);
        }
        self.requests.push(number);
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_numbered_as_they_come() {
        let mut builder = TraceBuilder::default();
        for id in [70, 7, 70, u64::MAX, 7] {
            builder.push(id).unwrap();
        }
        let trace = builder.finish("ids".to_owned()).unwrap();
        assert_eq!(trace.requests(), [0, 1, 0, 2, 1]);
        assert_eq!(trace.ids(), [70, 7, u64::MAX]);
        assert_eq!((trace.objects(), trace.footprint(Limit::Entries)), (3, Some(3)));
        assert_eq!((trace.bytes(), trace.footprint(Limit::Bytes)), (None, None));
        assert!(trace.weights(Limit::Bytes).is_none());
    }

    #[test]
    fn objects_keep_their_first_size() {
        let mut builder = TraceBuilder::default();
        for (id, bytes) in [(1, 100), (2, 0), (1, 7), (3, 30)] {
            builder.push_sized(id, bytes).unwrap();
        }
        let trace = builder.finish("sizes".to_owned()).unwrap();
        assert_eq!(trace.bytes(), Some(&[100, 1, 30][..]));
        assert_eq!(trace.footprint(Limit::Bytes), Some(131));
        assert_eq!(trace.footprint(Limit::Entries), Some(3));
    }

    #[test]
    fn an_empty_trace_is_none() {
        assert_eq!(TraceBuilder::default().finish(String::new()), Err(TraceError::Empty));
    }
}
