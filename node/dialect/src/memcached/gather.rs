//! Answers that all cores of a node have a part in.

use corelane_protocol::{Answer, Reply};

use super::VERSION;
use super::shape::{self, END};
use crate::facts::{Facts, NodeFacts};
use crate::number;
use crate::step::Moment;

/// How the replies of all cores become one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gather {
    /// `OK` once all have flushed, or nothing.
    Flushed(Answer),
    /// A page of statistics.
    Stats(Page),
}

/// What statistics are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// The node as a whole.
    General,
    /// Its entries, which memcached tells by their size.
    Items,
    /// Its memory, likewise.
    Slabs,
    /// What it was started with.
    Settings,
}

/// Replies that are being gathered.
#[derive(Debug)]
pub struct Gathering {
    gather: Gather,
    cores: u64,
    sums: [u64; COUNTERS.len()],
    failure: Option<Vec<u8>>,
}

macro_rules! counters {
    ($($name:ident)*) => {
        /// The numbers of a core that an answer is made of, by their names in its text.
        const COUNTERS: &[&str] = &[$(stringify!($name)),*];

        /// Their places in [`COUNTERS`].
        #[allow(non_camel_case_types, reason = "each is named as the counter is")]
        #[derive(Clone, Copy)]
        enum Counter { $($name),* }
    };
}

counters! {
    connections_open connections_opened connections_refused unauthorized
    requests_get requests_set requests_delete hits misses
    bytes_received bytes_sent
    items memory_budget_bytes memory_used_bytes evictions expirations out_of_memory
}

impl Gathering {
    /// Nothing gathered yet.
    pub fn new(gather: Gather) -> Gathering {
        Gathering { gather, cores: 0, sums: [0; COUNTERS.len()], failure: None }
    }

    /// Adds the reply of one core.
    pub fn add(&mut self, reply: &Reply<'_>) {
        match reply {
            Reply::Stats { text, .. } => {
                self.cores += 1;
                for line in text.split(|byte| *byte == b'\n') {
                    self.line(line);
                }
            }
            Reply::Failed { status, message } if self.failure.is_none() => {
                let mut text = Vec::new();
                shape::failed(*status, message, &mut text);
                self.failure = Some(text);
            }
            Reply::Busy { .. } if self.failure.is_none() => {
                self.failure = Some(shape::BUSY.to_vec());
            }
            _ => {}
        }
    }

    /// Adds a line of a core's statistics; what no answer is made of is passed over.
    fn line(&mut self, line: &[u8]) {
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(name), Some(number)) = (words.next(), words.next()) else { return };
        let place = COUNTERS.iter().position(|counter| counter.as_bytes() == name);
        if let (Some(place), Some(number)) = (place, super::line::unsigned(number)) {
            self.sums[place] = self.sums[place].saturating_add(number);
        }
    }

    /// Appends the answer, once every core has replied.
    pub fn finish(self, facts: &dyn Facts, moment: Moment, out: &mut Vec<u8>) {
        match (self.gather, &self.failure) {
            (Gather::Flushed(Answer::Never), _) => {}
            (_, Some(failure)) => out.extend_from_slice(failure),
            (Gather::Flushed(Answer::Always), None) => out.extend_from_slice(b"OK\r\n"),
            (Gather::Stats(page), None) => {
                self.page(page, facts.node(), moment, out);
                out.extend_from_slice(END);
            }
        }
    }

    fn page(&self, page: Page, node: NodeFacts<'_>, moment: Moment, out: &mut Vec<u8>) {
        let sum = |counter: Counter| self.sums[counter as usize];
        let version = VERSION.strip_prefix("VERSION ").expect("that is how it begins");
        let mut text = |name: &str, value: &[u8]| {
            out.extend_from_slice(b"STAT ");
            out.extend_from_slice(name.as_bytes());
            out.push(b' ');
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        };
        let mut stat = |name: &str, value: u64| {
            let mut digits = Vec::with_capacity(20);
            number::unsigned(value, &mut digits);
            text(name, &digits);
        };
        match page {
            Page::General => {
                stat("pid", node.process_id.into());
                stat("uptime", node.uptime_s);
                stat("time", moment.unix_ms / 1_000);
                stat("pointer_size", u64::from(usize::BITS));
                stat("max_connections", node.connections_max);
                stat("curr_connections", sum(Counter::connections_open));
                stat("total_connections", sum(Counter::connections_opened));
                stat("rejected_connections", sum(Counter::connections_refused));
                stat("cmd_get", sum(Counter::requests_get));
                stat("cmd_set", sum(Counter::requests_set));
                stat("get_hits", sum(Counter::hits));
                stat("get_misses", sum(Counter::misses));
                stat("cmd_delete", sum(Counter::requests_delete));
                stat("auth_errors", sum(Counter::unauthorized));
                stat("bytes_read", sum(Counter::bytes_received));
                stat("bytes_written", sum(Counter::bytes_sent));
                stat("limit_maxbytes", sum(Counter::memory_budget_bytes));
                stat("threads", self.cores);
                stat("bytes", sum(Counter::memory_used_bytes));
                stat("curr_items", sum(Counter::items));
                stat("evictions", sum(Counter::evictions));
                stat("reclaimed", sum(Counter::expirations));
                text("version", version.as_bytes());
            }
            // All sizes are told as one class: the node's own are finer, and change.
            Page::Items if sum(Counter::items) == 0 => {}
            Page::Items => {
                stat("items:1:number", sum(Counter::items));
                stat("items:1:evicted", sum(Counter::evictions));
                stat("items:1:outofmemory", sum(Counter::out_of_memory));
                stat("items:1:reclaimed", sum(Counter::expirations));
            }
            Page::Slabs => {
                stat("1:used_chunks", sum(Counter::items));
                stat("1:mem_requested", sum(Counter::memory_used_bytes));
                stat("active_slabs", 1);
                stat("total_malloced", sum(Counter::memory_used_bytes));
            }
            Page::Settings => {
                stat("maxbytes", node.memory_bytes_max);
                stat("maxconns", node.connections_max);
                stat("tcpport", node.port.into());
                stat("udpport", 0);
                stat("num_threads", self.cores);
                stat("item_size_max", node.value_bytes_max);
                let evicts = node.policy != "noeviction";
                text("evictions", if evicts { b"on" } else { b"off" });
                text("cas_enabled", b"yes");
                text("binding_protocol", b"ascii");
                text("flush_enabled", b"yes");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use corelane_protocol::{MonotonicUs, Status};

    use super::*;
    use crate::fuzz;

    fn check(gather: Gather, replies: &[Reply<'_>], expected: &str) {
        let mut gathering = Gathering::new(gather);
        replies.iter().for_each(|reply| gathering.add(reply));
        let mut out = Vec::new();
        let moment = Moment { now: MonotonicUs(0), unix_ms: 7_999 };
        gathering.finish(&fuzz::Node::default(), moment, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn numbers_of_the_cores_are_added_up() {
        let cores = [
            Reply::Stats { core: 0, text: b"items 2\nturns 9\nevictions 1\n" },
            Reply::Stats { core: 1, text: b"items 40\nbroken\nexpirations x\n" },
        ];
        let expected = "STAT items:1:number 42\r\nSTAT items:1:evicted 1\r\n\
                        STAT items:1:outofmemory 0\r\nSTAT items:1:reclaimed 0\r\nEND\r\n";
        check(Gather::Stats(Page::Items), &cores, expected);
        check(Gather::Stats(Page::Items), &[], "END\r\n");
    }

    #[test]
    fn a_failure_is_the_whole_answer() {
        let failed =
            Reply::Failed { status: Status::GoingAway, message: "the node is shutting down" };
        let replies = [Reply::Done { version: None }, failed];
        check(
            Gather::Flushed(Answer::Always),
            &replies,
            "SERVER_ERROR the node is shutting down\r\n",
        );
        check(Gather::Flushed(Answer::Always), &replies[..1], "OK\r\n");
        check(Gather::Flushed(Answer::Never), &replies, "");
    }
}
