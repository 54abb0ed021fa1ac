//! The keys of one connection: nobody else writes them, so every reply can be judged.
//!
//! Requests on one key take effect in the order sent, whatever the order of the replies; so
//! each key has a queue of what was sent, and the model follows it from the front as far as
//! replies have come.

use std::collections::VecDeque;

use crate::sim::model::{
    DeleteIf, KeyHead, KeyRequest, Observed, Rules, State, VersionsSeen, Window, lapse, step,
};

/// A point in the order of everything that happens in the world, and the time then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    /// Grows with every event.
    pub(crate) turn: u64,
    /// Microseconds on the node's clock.
    pub(crate) us: u64,
}

/// One flush: it takes effect on each core at some moment between two others.
#[derive(Clone, Debug)]
pub(crate) struct FlushRecord {
    /// Who asked.
    pub(crate) by: usize,
    /// When it was sent.
    pub(crate) sent_turn: u64,
    /// When it has certainly happened (or been replaced), once that is known.
    pub(crate) over_turn: Option<u64>,
    /// With a delay: it does not happen before this millisecond.
    pub(crate) due_ms: Option<u64>,
    /// The delay, in milliseconds.
    pub(crate) delay_ms: u32,
    /// When all cores had certainly been told of it.
    pub(crate) told_us: Option<u64>,
    /// It was answered, and cannot have been replaced by another delayed one.
    pub(crate) is_certain: bool,
}

/// A request sent on a key, waiting for its turn to be judged.
#[derive(Debug)]
struct Sent {
    request: KeyRequest,
    head: KeyHead,
    wants_answer: bool,
    at: Moment,
    outcome: Option<(Observed, Moment)>,
}

/// One key and what is known of it.
#[derive(Debug)]
pub(crate) struct TrackedKey {
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// The core that owns it.
    pub(crate) core: u16,
    states: Vec<State>,
    /// Between these turns the last judged request was executed.
    judged: (u64, u64),
    /// How many requests were judged.
    judged_count: u64,
    queue: VecDeque<Sent>,
    /// The last value that was written, for conditions that should hold now and then.
    pub(crate) last_value: Option<std::rc::Rc<[u8]>>,
    /// The last version that a reply told.
    pub(crate) last_version: Option<u64>,
}

/// What judging needs to know of the rest of the world.
pub(crate) struct Context<'a> {
    /// The connection that owns the keys.
    pub(crate) connection: usize,
    /// The node's rules.
    pub(crate) rules: &'a Rules,
    /// All flushes so far.
    pub(crate) flushes: &'a [FlushRecord],
    /// Versions given out so far.
    pub(crate) versions: &'a mut VersionsSeen,
}

impl TrackedKey {
    /// A key that nobody has written.
    pub(crate) fn new(bytes: Vec<u8>, core: u16, now: Moment) -> TrackedKey {
        TrackedKey {
            bytes,
            core,
            states: vec![None],
            judged: (now.turn, now.turn),
            judged_count: 0,
            queue: VecDeque::new(),
            last_value: None,
            last_version: None,
        }
    }

    /// Notes a request that was sent, and says by which number its reply will name it.
    pub(crate) fn sent(
        &mut self,
        request: KeyRequest,
        head: KeyHead,
        wants_answer: bool,
        at: Moment,
    ) -> u64 {
        if let KeyRequest::Set { value, .. } = &request {
            self.last_value = Some(value.clone());
        }
        self.queue.push_back(Sent { request, head, wants_answer, at, outcome: None });
        self.judged_count + self.queue.len() as u64 - 1
    }

    /// Whether the request with this number was one that wants an answer and has none.
    pub(crate) fn is_open(&self, number: u64) -> bool {
        number
            .checked_sub(self.judged_count)
            .and_then(|at| self.queue.get(at as usize))
            .is_some_and(|sent| sent.wants_answer && sent.outcome.is_none())
    }

    /// Notes a reply and judges all that can be judged now.
    ///
    /// # Panics
    /// No behaviour of a correct node explains the replies.
    pub(crate) fn replied(
        &mut self,
        number: u64,
        observed: Observed,
        at: Moment,
        context: &mut Context,
    ) {
        assert!(self.is_open(number), "a reply came twice, or to a request that wants none");
        if let Observed::Done(Some(version))
        | Observed::Value { version: Some(version), .. }
        | Observed::Number { version: Some(version), .. } = observed
        {
            self.last_version = Some(version);
        }
        self.queue[(number - self.judged_count) as usize].outcome = Some((observed, at));
        while let Some(until) = self.front_was_executed_until() {
            let sent = self.queue.pop_front().expect("there is a front");
            self.judged_count += 1;
            self.judge(&sent, until, context);
        }
    }

    /// The moment by which the front of the queue was certainly executed, if that is known.
    /// For a request that is not answered this is the reply to the next one that is.
    fn front_was_executed_until(&self) -> Option<Moment> {
        let answered = self.queue.iter().find(|sent| sent.wants_answer)?;
        answered.outcome.as_ref().map(|(_, at)| *at)
    }

    fn judge(&mut self, sent: &Sent, until: Moment, context: &mut Context) {
        let before = std::mem::take(&mut self.states);
        let window = Window { from_us: sent.at.us, to_us: until.us };
        let mut states = self.flushed(before.clone(), sent.at, until, context);
        states = lapse(states, window, context.rules.may_evict);
        let observed = sent.outcome.as_ref().map(|(observed, _)| observed);
        self.states = step(&states, &sent.request, sent.head, window, context.rules, observed);
        assert!(
            !self.states.is_empty(),
            "no correct node answers so.\n key: {:.60?} of core {}\n request: {:?}, {:?}\n executed: {window:?}\n \
             answered: {observed:?}\n possible before: {before:?}\n possible then: {states:?}",
            String::from_utf8_lossy(&self.bytes),
            self.core,
            sent.request,
            sent.head,
        );
        self.judged = (sent.at.turn, until.turn);
        self.note_version(sent, context);
    }

    fn note_version(&self, sent: &Sent, context: &mut Context) {
        let is_fresh = match sent.request {
            KeyRequest::Set { condition, .. } => {
                !matches!(condition, corelane_protocol::SetCondition::NewerThan(_))
            }
            KeyRequest::Count { .. } | KeyRequest::Extend { .. } => true,
            _ => false,
        };
        match &sent.outcome {
            Some((Observed::Done(Some(version)), _)) if is_fresh => {
                context.versions.given(self.core, *version);
            }
            Some((Observed::Number { version: Some(version), .. }, _)) => {
                context.versions.given(self.core, *version);
            }
            _ => {}
        }
    }

    /// What flushes between the request judged last and the one sent at `from` made of the
    /// states.
    fn flushed(
        &self,
        states: Vec<State>,
        from: Moment,
        until: Moment,
        context: &Context,
    ) -> Vec<State> {
        let mut may = false;
        let mut must = false;
        for flush in context.flushes {
            let over = flush.over_turn.unwrap_or(u64::MAX);
            if flush.by == context.connection && flush.due_ms.is_none() {
                // The order of one connection's requests is known exactly.
                let between = self.judged.0 < flush.sent_turn && flush.sent_turn < from.turn;
                must |= between;
                continue;
            }
            let early = flush.due_ms.is_some_and(|due_ms| until.us / 1_000 < due_ms);
            if early || over < self.judged.0 || flush.sent_turn > until.turn {
                continue;
            }
            may = true;
            must |= flush.is_certain && flush.sent_turn > self.judged.1 && over < from.turn;
        }
        match (must, may) {
            (true, _) => vec![None],
            (false, true) => {
                let mut states = states;
                if !states.contains(&None) {
                    states.push(None);
                }
                states
            }
            (false, false) => states,
        }
    }
}

/// Whether a request only reads.
pub(crate) fn is_read(request: &KeyRequest) -> bool {
    matches!(request, KeyRequest::Get { .. } | KeyRequest::Exists | KeyRequest::TtlOf)
}

/// A delete under the condition that the value is the one last written.
pub(crate) fn delete_if_value(key: &TrackedKey) -> DeleteIf {
    match &key.last_value {
        Some(value) => DeleteIf::ValueIs(value.clone()),
        None => DeleteIf::Always,
    }
}
