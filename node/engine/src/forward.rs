//! Requests of this core's connections at other cores: what waits, what is under way, and
//! the credits that keep lanes from filling up.
//!
//! A connection has at most one batch under way at each other core, so its requests for a
//! key take effect in the order sent, also when a batch comes back half executed. What
//! arrives meanwhile waits in the route's queue and leaves as one batch. A batch may end in the
//! middle of a large set; the next one goes on there.

use std::collections::VecDeque;

use corelane_protocol::{Reply, ReplyHead, wire};

use crate::ConnectionId;
use crate::limits::{FORWARD_BYTES_MAX, MAIL_CREDITS, SERIES_MAX};
use crate::spare::Spare;

/// How a series of parts ends once every core has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SeriesEnd {
    /// The cores answered part by part; a closing frame follows.
    End,
    /// The cores said nothing; one reply says that it is done.
    Done,
    /// Nobody wants to know.
    Silent,
}

/// A request that several cores take part in.
#[derive(Debug)]
struct Series {
    head: ReplyHead,
    end: SeriesEnd,
    /// Batches with parts of it that have not come back.
    batches: u16,
    /// More parts may be added.
    open: bool,
}

/// Whether batches to a core may end in the middle of a large set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LargeSet {
    /// They do not.
    None,
    /// One is being queued as it comes.
    Coming,
    /// All of it was queued; the batches are not all done.
    Queued,
}

/// One connection's requests at one other core.
#[derive(Debug)]
struct Route {
    to: u16,
    under_way: bool,
    /// In the queue for a credit.
    waits_for_credit: bool,
    queue: Vec<u8>,
    /// Bytes at the end of the batch under way that are the front of a frame whose rest will
    /// not come.
    torn: usize,
    large: LargeSet,
    /// Series with parts in `queue`, and in the batch under way.
    queued_series: Vec<u16>,
    sent_series: Vec<u16>,
}

/// One connection's requests at other cores.
#[derive(Debug, Default)]
pub(crate) struct Remote {
    routes: Vec<Route>,
    series: Vec<Option<Series>>,
    /// A batch has come back since replies were last handed out.
    landed: bool,
}

impl Remote {
    fn route(&mut self, to: u16) -> &mut Route {
        let at = self.routes.iter().position(|route| route.to == to).unwrap_or_else(|| {
            self.routes.push(Route {
                to,
                under_way: false,
                waits_for_credit: false,
                queue: Vec::new(),
                torn: 0,
                large: LargeSet::None,
                queued_series: Vec::new(),
                sent_series: Vec::new(),
            });
            self.routes.len() - 1
        });
        &mut self.routes[at]
    }

    /// The queue of whole frames for a core; the caller appends to it.
    #[inline]
    pub(crate) fn queue(&mut self, to: u16, spare: &mut Spare) -> &mut Vec<u8> {
        let queue = &mut self.route(to).queue;
        if queue.capacity() == 0 {
            *queue = spare.take();
        }
        queue
    }

    /// Takes back the last bytes that were queued for a core: the front of a frame whose rest
    /// will not come. Whether the core may have got some of them.
    pub(crate) fn abandon(&mut self, to: u16, bytes: usize) -> bool {
        let route = self.route(to);
        route.large = LargeSet::None;
        let queued = bytes.min(route.queue.len());
        route.queue.truncate(route.queue.len() - queued);
        let sent = bytes - queued;
        route.torn = if route.under_way { sent } else { 0 };
        sent > 0
    }

    /// The queue for a core, which gets the next bytes of a large set, with so many to come
    /// after them.
    pub(crate) fn queue_large(&mut self, to: u16, to_come: usize) -> &mut Vec<u8> {
        let route = self.route(to);
        route.large = if to_come > 0 { LargeSet::Coming } else { LargeSet::Queued };
        &mut route.queue
    }

    /// The cores that may have got the front of a large set, whose rest will not come if
    /// nothing more is sent.
    pub(crate) fn in_large_sets(&self) -> impl Iterator<Item = u16> {
        self.routes.iter().filter(|route| route.large != LargeSet::None).map(|route| route.to)
    }

    /// Opens a series.
    pub(crate) fn open_series(&mut self, head: ReplyHead, end: SeriesEnd) -> u16 {
        let series = Series { head, end, batches: 0, open: true };
        let free = self.series.iter().position(Option::is_none);
        let at = free.unwrap_or_else(|| {
            self.series.push(None);
            self.series.len() - 1
        });
        self.series[at] = Some(series);
        at as u16
    }

    /// Says that the frame just queued for a core is a part of a series.
    pub(crate) fn add_part(&mut self, series: u16, to: u16) {
        let route = self.route(to);
        if !route.queued_series.contains(&series) {
            route.queued_series.push(series);
            self.series_mut(series).batches += 1;
        }
    }

    /// No more parts follow; if none is out, the series ends here.
    pub(crate) fn close_series(&mut self, series: u16, output: &mut Vec<u8>) {
        self.series_mut(series).open = false;
        self.end_if_complete(series, output);
    }

    fn series_mut(&mut self, series: u16) -> &mut Series {
        self.series[usize::from(series)].as_mut().expect("a series lives until its last part")
    }

    fn end_if_complete(&mut self, series: u16, output: &mut Vec<u8>) {
        let Series { head, end, batches, open } = self.series_mut(series);
        if *batches > 0 || *open {
            return;
        }
        match end {
            SeriesEnd::End => wire::encode_reply(head, &Reply::End, output),
            SeriesEnd::Done => wire::encode_reply(head, &Reply::Done { version: None }, output),
            SeriesEnd::Silent => {}
        }
        self.series[usize::from(series)] = None;
    }

    /// Whether so much waits that no more requests should be taken.
    pub(crate) fn is_full(&self) -> bool {
        self.routes.iter().map(|route| route.queue.len()).sum::<usize>() >= FORWARD_BYTES_MAX
            || self.series.iter().flatten().count() >= SERIES_MAX
    }

    /// Whether anything waits or is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.routes.iter().any(|route| route.under_way || !route.queue.is_empty())
            || self.series.iter().any(Option::is_some)
    }

    /// Whether replies had better wait for those of a batch that is under way, so that one
    /// send takes both. They wait for one batch at most, and never for one whose end takes
    /// more of the client than it has sent.
    pub(crate) fn holds_replies(&mut self) -> bool {
        !std::mem::take(&mut self.landed)
            && self.routes.iter().any(|route| route.under_way)
            && self.routes.iter().all(|route| {
                route.large == LargeSet::None
                    && route.torn == 0
                    && (route.under_way || route.queue.is_empty())
            })
    }

    /// Takes every batch that may leave now: for each core its frames. A core without
    /// credit is told to call for this connection later.
    pub(crate) fn launch(
        &mut self,
        id: ConnectionId,
        credits: &mut Credits,
        mut send: impl FnMut(u16, Vec<u8>),
    ) {
        for route in &mut self.routes {
            if route.under_way || route.waits_for_credit || route.queue.is_empty() {
                continue;
            }
            if !credits.take(route.to) {
                route.waits_for_credit = true;
                credits.wait(route.to, id);
                continue;
            }
            route.under_way = true;
            std::mem::swap(&mut route.queued_series, &mut route.sent_series);
            send(route.to, std::mem::take(&mut route.queue));
        }
    }

    /// A credit for a core may have come back.
    pub(crate) fn credit_returned(&mut self, to: u16) {
        self.route(to).waits_for_credit = false;
    }

    /// A batch came back from a core, its replies already in `output`; `rest` was not
    /// executed and goes again, before everything queued since.
    pub(crate) fn landed(&mut self, from: u16, mut rest: Vec<u8>, output: &mut Vec<u8>) {
        let route = self.route(from);
        debug_assert!(route.under_way, "only a batch that left can land");
        route.under_way = false;
        self.landed = true;
        let route = self.route(from);
        rest.truncate(rest.len() - rest.len().min(std::mem::take(&mut route.torn)));
        let landed = std::mem::take(&mut route.sent_series);
        if rest.is_empty() && route.queue.is_empty() && route.large == LargeSet::Queued {
            route.large = LargeSet::None;
        }
        if !rest.is_empty() {
            // Its parts are not all answered: the series of the batch wait on.
            rest.extend_from_slice(&route.queue);
            route.queue = rest;
            for series in landed {
                if self.route(from).queued_series.contains(&series) {
                    self.series_mut(series).batches -= 1;
                } else {
                    self.route(from).queued_series.push(series);
                }
            }
            return;
        }
        for series in landed {
            self.series_mut(series).batches -= 1;
            self.end_if_complete(series, output);
        }
    }
}

/// How many more batches this core may have under way at each other core, and which
/// connections wait for one to return.
#[derive(Debug)]
pub(crate) struct Credits {
    free: Vec<usize>,
    waiting: Vec<VecDeque<ConnectionId>>,
    /// Entries of all the queues in `waiting`.
    waiting_count: usize,
}

impl Credits {
    pub(crate) fn new(cores: u16) -> Credits {
        Credits {
            free: vec![MAIL_CREDITS; usize::from(cores)],
            waiting: vec![VecDeque::new(); usize::from(cores)],
            waiting_count: 0,
        }
    }

    /// Takes a credit, if there is one.
    pub(crate) fn take(&mut self, to: u16) -> bool {
        let free = &mut self.free[usize::from(to)];
        if *free == 0 {
            return false;
        }
        *free -= 1;
        true
    }

    fn wait(&mut self, to: u16, id: ConnectionId) {
        self.waiting[usize::from(to)].push_back(id);
        self.waiting_count += 1;
    }

    /// A batch has come back.
    pub(crate) fn give_back(&mut self, to: u16) {
        self.free[usize::from(to)] += 1;
    }

    /// Takes those out of the queues who have waited longest, as many for each core as it
    /// has credit. Whoever of them does not use it leaves it to the next call, so callers
    /// repeat until nobody comes.
    pub(crate) fn call(&mut self, mut each: impl FnMut(u16, ConnectionId)) {
        if self.waiting_count == 0 {
            return;
        }
        for (core, waiting) in (0..).zip(&mut self.waiting) {
            let called = self.free[usize::from(core)].min(waiting.len());
            self.waiting_count -= called;
            waiting.drain(..called).for_each(|id| each(core, id));
        }
    }

    /// Batches under way at all other cores.
    pub(crate) fn in_use(&self) -> usize {
        self.free.iter().map(|free| MAIL_CREDITS - free).sum()
    }
}
