//! Entry points for fuzzing and seeded tests: what must hold for any input.

use corelane_protocol::{
    MonotonicUs, Remaining, Reply, Request, Status, Value, Version, WantVersion,
};

use crate::{
    Addresses, ClientFacts, ClusterFacts, Facts, Gather, Manner, Moment, NodeFacts, Part, Step,
    Taken,
};
use crate::{memcached, resp};

/// Longest value in these runs, in bytes: short enough for inputs to pass it.
const VALUE_BYTES_MAX: usize = 64;

const MOMENT: Moment = Moment { now: MonotonicUs(1), unix_ms: 1_700_000_000_000 };

/// A node with or without a token.
#[derive(Clone, Copy, Debug, Default)]
pub struct Node {
    /// The token.
    pub token: Option<&'static [u8]>,
}

impl Facts for Node {
    fn needs_token(&self) -> bool {
        self.token.is_some()
    }

    fn is_token(&self, password: &[u8]) -> bool {
        self.token == Some(password)
    }

    fn client(&self) -> ClientFacts<'_> {
        ClientFacts {
            number: 1,
            addresses: &Addresses::Unknown,
            age_s: 0,
            idle_s: 0,
            input_bytes: 0,
            output_bytes: 0,
        }
    }

    fn node(&self) -> NodeFacts<'_> {
        NodeFacts {
            version: "0.0.0",
            name: "node",
            run_id: "0000000000000000000000000000000000000000",
            process_id: 1,
            port: 1,
            cores: 1,
            uptime_s: 0,
            connections_max: 1,
            value_bytes_max: VALUE_BYTES_MAX as u64,
            memory_bytes_max: 1 << 30,
            memory_resident_bytes: 1,
            memory_system_bytes: 1,
            policy: "allkeys-lru",
        }
    }

    fn cluster(&self) -> Option<ClusterFacts<'_>> {
        None
    }

    fn slot_of(&self, _key: &[u8]) -> u16 {
        0
    }
}

/// A session of any dialect.
trait Speaker {
    fn step<'a>(&'a mut self, input: &'a [u8], node: &Node, out: &mut Vec<u8>) -> Taken<'a>;

    fn next_queued<'a>(&'a mut self, node: &Node, out: &mut Vec<u8>) -> Option<Step<'a>>;
}

impl Speaker for memcached::Session {
    fn step<'a>(&'a mut self, input: &'a [u8], node: &Node, out: &mut Vec<u8>) -> Taken<'a> {
        let told = told(self.manner(), input);
        let taken = memcached::Session::step(self, input, node, MOMENT, out);
        agrees(told, &taken);
        taken
    }

    fn next_queued<'a>(&'a mut self, _: &Node, _: &mut Vec<u8>) -> Option<Step<'a>> {
        unreachable!("memcached has no transactions")
    }
}

impl Speaker for resp::Session {
    fn step<'a>(&'a mut self, input: &'a [u8], node: &Node, out: &mut Vec<u8>) -> Taken<'a> {
        let told = told(self.manner(), input);
        let taken = resp::Session::step(self, input, node, MOMENT, out);
        agrees(told, &taken);
        taken
    }

    fn next_queued<'a>(&'a mut self, node: &Node, out: &mut Vec<u8>) -> Option<Step<'a>> {
        resp::Session::next_queued(self, node, MOMENT, out)
    }
}

/// The length of the command at the front of the input, and what it asks if it is a plain one.
fn told(manner: Option<Manner>, input: &[u8]) -> Option<(usize, Option<Part<'_>>)> {
    let (bytes, ahead) = manner?.next(input, MOMENT)?;
    Some((bytes, manner?.part(&ahead, &input[..bytes])))
}

/// What was told of a command is what it is.
fn agrees(told: Option<(usize, Option<Part<'_>>)>, taken: &Taken<'_>) {
    match (told, taken) {
        (None, _) => {}
        (Some((bytes, Some(part))), Taken::Whole { consumed, step: Step::One(one) }) => {
            assert_eq!(bytes, *consumed);
            assert_eq!((part.head, part.request), (one.head, one.request));
            assert_eq!((part.shape, part.echo), (one.shape, one.echo));
        }
        (Some((_, None)), Taken::Whole { step: Step::Close, .. }) => {}
        (Some((bytes, None)), Taken::Whole { consumed, .. }) => assert_eq!(bytes, *consumed),
        (told, taken) => panic!("{told:?} is {taken:?}"),
    }
}

/// The same bytes of a memcached client are answered in the same way however they are cut:
/// whole, byte by byte, and in pieces of the lengths in `cuts`, over and over.
///
/// # Panics
/// They are not.
pub fn memcached(input: &[u8], cuts: &[u8]) {
    cut(input, cuts, |node| memcached::Session::new(VALUE_BYTES_MAX, node));
}

/// The same for a RESP client.
///
/// # Panics
/// The answers differ.
pub fn resp(input: &[u8], cuts: &[u8]) {
    cut(input, cuts, |node| resp::Session::new(VALUE_BYTES_MAX, node));
}

fn cut<S: Speaker>(input: &[u8], cuts: &[u8], session: impl Fn(&Node) -> S) {
    for token in [None, Some(b"token".as_slice())] {
        let node = Node { token };
        let whole = answers(session(&node), &node, input, [input.len()].into_iter());
        let bytes = answers(session(&node), &node, input, std::iter::repeat(1));
        assert_eq!(whole, bytes, "byte by byte: {}", input.escape_ascii());
        let pieces = cuts.iter().cycle().map(|cut| usize::from(*cut) + 1);
        let cut = answers(session(&node), &node, input, pieces);
        assert_eq!(whole, cut, "cut by {cuts:?}: {}", input.escape_ascii());
    }
}

/// What is asked and answered, until the input or the connection ends.
fn answers(
    mut session: impl Speaker,
    node: &Node,
    input: &[u8],
    mut pieces: impl Iterator<Item = usize>,
) -> (Vec<String>, Vec<u8>) {
    let (mut asked, mut answered) = (Vec::new(), Vec::new());
    let (mut start, mut end) = (0, 0);
    while end < input.len() {
        end = input.len().min(end + pieces.next().unwrap_or(usize::MAX).max(1));
        loop {
            let here = &input[start..end];
            match session.step(here, node, &mut answered) {
                Taken::Incomplete { needed } => {
                    assert!(needed > here.len(), "{needed} of {}", here.len());
                    break;
                }
                Taken::Whole { consumed, step } => {
                    assert!(consumed <= here.len());
                    assert!(consumed > 0 || matches!(step, Step::Close));
                    start += consumed;
                    let is_transaction = matches!(step, Step::Transaction { .. });
                    if !answer(step, node, &mut asked, &mut answered) {
                        return (asked, answered);
                    }
                    while is_transaction
                        && let Some(step) = session.next_queued(node, &mut answered)
                    {
                        assert!(!matches!(step, Step::Transaction { .. } | Step::Close));
                        answer(step, node, &mut asked, &mut answered);
                    }
                }
            }
        }
    }
    (asked, answered)
}

/// Answers a step by a reply that its requests alone decide; whether the connection goes on.
fn answer(step: Step<'_>, node: &Node, asked: &mut Vec<String>, answered: &mut Vec<u8>) -> bool {
    let mut one = |part: Part<'_>| {
        asked.push(format!("{:?} {:?}", part.head, part.request));
        part.shape.render(part.echo, &reply(&part), MOMENT, answered);
    };
    match step {
        Step::Answered => {}
        Step::One(part) => one(part),
        Step::Several { parts, gather } => {
            let announced = parts.len();
            assert_eq!(parts.map(one).count(), announced);
            asked.push(format!("{gather:?}"));
            match gather {
                Gather::InOrder { end } => answered.extend_from_slice(end),
                Gather::Resp(gather) => {
                    resp::Gathering::new(gather).finish(node, MOMENT, answered);
                }
                Gather::Memcached(_) => {}
            }
        }
        Step::Everywhere { head, request, gather } => {
            asked.push(format!("{head:?} {request:?} {gather:?}"));
        }
        Step::Control { control, gather } => asked.push(format!("{control:?} {gather:?}")),
        Step::Transaction { shape } => shape.render(b"", &DONE, MOMENT, answered),
        Step::Close => return false,
    }
    true
}

const DONE: Reply<'static> = Reply::Done { version: None };

/// Some reply that a request of this kind may have.
fn reply<'a>(part: &Part<'a>) -> Reply<'a> {
    let version = (part.head.want_version == WantVersion::Yes).then_some(Version(77));
    let key = part.request.key().unwrap_or_default();
    match (key.len() % 3, &part.request) {
        (1, _) => Reply::Failed { status: Status::NotFound, message: "" },
        (_, Request::Get { .. } | Request::GetAndTouch { .. }) => {
            Reply::Value(Value { bytes: key, user_flags: 5, version })
        }
        (_, Request::Count(_)) => Reply::Number { number: 42, version },
        (2, Request::Set(_) | Request::Delete { .. }) => {
            Reply::Failed { status: Status::ConditionFailed, message: "" }
        }
        (_, Request::TtlOf { .. }) => Reply::Remaining(Remaining::Ms(1_234)),
        (_, Request::Describe { .. }) => Reply::Failed { status: Status::OutOfMemory, message: "" },
        _ => Reply::Done { version },
    }
}
