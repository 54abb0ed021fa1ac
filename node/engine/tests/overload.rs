//! A core that is asked for more than it can do, in virtual time: every request costs some of
//! it, and what arrives meanwhile waits for the next turn.

mod harness;

use std::collections::VecDeque;

use corelane_engine::SendEnd;
use corelane_engine::limits::{QUEUE_INTERVAL_US, TURN_BYTES};
use corelane_protocol::wire::{self, FRAME_BYTES_MAX, ReplyDecoded};
use corelane_protocol::{MonotonicUs, Reply, Request, RequestHead, RequestId, Status};
use harness::{Node, Wire, config, frame_with, get, hello, set, statuses};

/// What a request costs that is executed, and one that is not, in microseconds.
const EXECUTED_US: u64 = 20;
const TURNED_AWAY_US: u64 = 1;
/// What a turn costs beside its requests.
const TURN_US: u64 = 5;

const CONNECTIONS: usize = 20;
const DEADLINE_US: u64 = 40_000;

/// What became of the requests of a run.
#[derive(Debug, Default)]
struct Outcome {
    sent: u64,
    in_time: u64,
    executed_late: u64,
    busy: u64,
    too_late: u64,
}

/// A core under open-loop load.
struct Core {
    node: Node,
    wires: Vec<Wire>,
    /// When each request that was not yet delivered was sent, by connection.
    unread: Vec<VecDeque<u64>>,
    turn_began_us: u64,
    deadlines: bool,
}

impl Core {
    fn new(deadlines: bool) -> Core {
        let mut node = Node::new(1, config());
        let wires: Vec<Wire> = (0..CONNECTIONS).map(|_| node.connect(0)).collect();
        for wire in &wires {
            node.ask(*wire, &hello(1, None, b""));
        }
        node.ask(wires[0], &set(1, b"key", b"value"));
        Core {
            node,
            wires,
            unread: vec![VecDeque::new(); CONNECTIONS],
            turn_began_us: 0,
            deadlines,
        }
    }

    fn counted(&mut self) -> (u64, u64) {
        let counters = self.node.engines[0].counters();
        (counters.requests, counters.busy + counters.too_late)
    }

    /// Requests are sent at even intervals, and the core takes turns, until `until_us`.
    fn run(&mut self, interval_ns: u64, until_us: u64) -> Outcome {
        let start_us = self.node.now.0;
        let mut outcome = Outcome::default();
        let mut waiting = false;
        while self.node.now.0 < until_us {
            let now = self.node.now;
            // What was sent up to now has arrived.
            let due = (now.0 - start_us) * 1_000 / interval_ns;
            while outcome.sent < due {
                let sent_us = start_us + outcome.sent * interval_ns / 1_000;
                self.unread[outcome.sent as usize % CONNECTIONS].push_back(sent_us);
                outcome.sent += 1;
            }
            let queued_since = if waiting { now } else { MonotonicUs(self.turn_began_us) };
            self.node.engines[0].begin_turn(now, queued_since);
            self.turn_began_us = now.0;
            let before = self.counted();
            for at in 0..CONNECTIONS {
                if !self.node.seen(self.wires[at]).paused {
                    let mut frames = Vec::new();
                    for sent_us in self.unread[at].drain(..) {
                        let deadline = MonotonicUs(sent_us + DEADLINE_US);
                        let id = RequestId((sent_us - start_us) as u32);
                        let head = RequestHead {
                            id,
                            deadline: self.deadlines.then_some(deadline),
                            ..RequestHead::default()
                        };
                        let request = Request::Get { key: b"key", least_version: None };
                        frames.extend_from_slice(&frame_with(head, &request));
                    }
                    if !frames.is_empty() {
                        self.node.receive(self.wires[at], &frames);
                    }
                }
            }
            let output = &mut self.node.outputs[0];
            let _ = self.node.engines[0].tick(now, output);
            self.node.engines[0].flush_output(now, output);
            let after = self.counted();
            let worked_us = TURN_US
                + (after.0 - before.0) * EXECUTED_US
                + (after.1 - before.1) * TURNED_AWAY_US;
            waiting = after == before;
            self.node.now.0 += worked_us;
            // Replies go out at the end of the turn.
            for at in 0..CONNECTIONS {
                self.node.end_send(self.wires[at], SendEnd::Whole);
                let sent = std::mem::take(&mut self.node.seen(self.wires[at]).sent);
                self.judge(&sent, start_us, &mut outcome);
            }
        }
        outcome
    }

    fn judge(&self, mut replies: &[u8], start_us: u64, outcome: &mut Outcome) {
        while let ReplyDecoded::Complete { frame, consumed } =
            wire::decode_reply(replies, FRAME_BYTES_MAX)
        {
            let sent_us = start_us + u64::from(frame.head.id.0);
            match frame.reply {
                Reply::Value(_) if self.node.now.0 <= sent_us + DEADLINE_US => outcome.in_time += 1,
                Reply::Value(_) => outcome.executed_late += 1,
                Reply::Busy { retry_after_us } => {
                    assert!(retry_after_us > 0);
                    outcome.busy += 1;
                }
                Reply::Failed { status: Status::TooLate, .. } => outcome.too_late += 1,
                other => panic!("{other:?}"),
            }
            replies = &replies[consumed..];
        }
    }
}

const RUN_US: u64 = 2_000_000;

#[test]
fn beyond_saturation_as_much_is_answered_in_time() {
    let useful = |percent: u64| {
        let outcome = Core::new(true).run(EXECUTED_US * 1_000 * 100 / percent, RUN_US);
        eprintln!("{percent} % of saturation: {outcome:?}");
        outcome
    };
    let peak = [50, 80, 90, 95].map(|percent| useful(percent).in_time).into_iter().max().unwrap();
    assert!(useful(50).busy == 0, "nobody is turned away without need");
    for percent in [120, 200, 400] {
        let outcome = useful(percent);
        assert!(outcome.busy > 0);
        if percent <= 200 {
            assert!(outcome.in_time * 10 >= peak * 9, "{} of {peak}", outcome.in_time);
        }
        // Work for nothing is what is done before an interval has shown that the queue stays.
        let interval = QUEUE_INTERVAL_US / EXECUTED_US;
        assert!(outcome.executed_late <= 2 * interval, "{} late", outcome.executed_late);
    }
}

#[test]
fn the_queue_recovers_when_the_load_falls() {
    let mut core = Core::new(true);
    let overload = core.run(EXECUTED_US * 500, RUN_US / 2);
    assert!(overload.busy > 0);
    // What is left of it goes within an interval.
    core.run(EXECUTED_US * 1_250, RUN_US / 2 + 2 * QUEUE_INTERVAL_US);
    let after = core.run(EXECUTED_US * 1_250, RUN_US);
    assert_eq!((after.busy, after.too_late, after.executed_late), (0, 0, 0), "{after:?}");
}

#[test]
fn who_names_no_deadline_is_never_refused_and_slowed_by_not_being_read() {
    let mut core = Core::new(false);
    let outcome = core.run(EXECUTED_US * 250, RUN_US / 4);
    assert_eq!((outcome.busy, outcome.too_late), (0, 0));
    let counters = core.node.engines[0].counters();
    assert!(counters.deferrals > 0, "their requests stay with them");
    assert!(counters.input_bytes_held <= (CONNECTIONS * 2 * TURN_BYTES) as u64);
    // Everything that was taken is answered in the end.
    core.node.work();
    let answered: u64 = outcome.in_time + outcome.executed_late;
    let mut rest = 0;
    for wire in core.wires.clone() {
        rest += core.node.answers(wire).len() as u64;
    }
    let requests = core.node.engines[0].counters().requests_get;
    assert_eq!(answered + rest, requests);
}

#[test]
fn a_long_pipeline_is_served_a_share_a_turn() {
    let mut node = Node::new(1, config());
    let (greedy, modest) = (node.connect(0), node.connect(0));
    node.ask(greedy, &set(1, b"key", b"v"));
    // Misses, so that no cap on output bounds them.
    let pipeline: Vec<u8> = (0..10_000).flat_map(|id| get(id, b"absent")).collect();
    let share = (TURN_BYTES / get(0, b"absent").len()) as u64;
    node.receive(greedy, &pipeline);
    let mut served = node.engines[0].counters().requests_get;
    assert!(served <= share + 1, "{served} at once");
    let mut turns = 0;
    let mut answered = 0;
    while answered < 10_000 {
        node.turn(0);
        node.receive(modest, &get(7, b"key"));
        node.flush(0);
        node.end_send(greedy, SendEnd::Whole);
        node.end_send(modest, SendEnd::Whole);
        assert_eq!(statuses(&node.answers(modest)), [(7, Status::Ok)], "in every turn");
        answered += node.answers(greedy).len();
        let now = node.engines[0].counters().requests_get;
        assert!(now - served <= share + 2, "{} in one turn", now - served);
        served = now;
        turns += 1;
    }
    assert!(turns >= 10_000 / share, "{turns} turns");
}
