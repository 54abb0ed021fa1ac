//! Requests that every core, or several, take part in: multi-get, flush and stats.
//! Each becomes frames for the cores concerned; the connection collects the replies and
//! ends the series when the last core has answered.

use corelane_protocol::{
    Answer, Keys, MonotonicUs, Reply, Request, RequestHead, ShortEpoch, Space, StandIn, wire,
};

use crate::ahead::{Coming, Owner, Place, Plain};
use crate::connection::{Connection, Resume};
use crate::dispatch::{Dispatcher, Taken};
use crate::execute::reply_head;
use crate::forward::SeriesEnd;

impl Dispatcher {
    /// Answers a multi-get key by key. Stops between two keys when the output is full;
    /// called again with the same frame, it goes on there.
    pub(crate) fn multi_get(
        &mut self,
        connection: &mut Connection,
        head: &RequestHead,
        keys: Keys<'_>,
        now: MonotonicUs,
    ) -> Taken {
        let resume = connection.resume.take().unwrap_or(Resume { next_part: 0, series: None });
        let mut series = resume.series;
        let room = self.output_room(connection);
        let mut stopped = None;
        let mut rest = (0u16..).zip(keys).skip(usize::from(resume.next_part));
        self.ahead.forget();
        loop {
            if self.ahead.is_used_up() {
                let parts = rest.clone().map(|(_, key)| Coming {
                    at: Place::of(key),
                    bytes: 0,
                    space: Space::default(),
                    key,
                    plain: Plain::No,
                });
                self.ahead.look(&self.executor, &self.slots.cores, parts);
            }
            let Some((part, key)) = rest.next() else { break };
            if connection.output.len() + self.executor.leases.bytes() >= room {
                stopped = Some(part);
                break;
            }
            let owner = self.ahead.take(key, &self.executor.shard);
            let head = RequestHead { part: Some(part), ..*head };
            let request = Request::Get { key, least_version: None };
            let owner = owner.expect("every key was looked at");
            match self.or_in_place(&head, &request, owner) {
                Owner::Here(known) => {
                    let request = self.in_place(&head, request);
                    let output = &mut connection.output;
                    if !self.executor.execute_plain(&head, &request, &known, now, output) {
                        self.executor.execute(&head, &request, now, output);
                    }
                }
                Owner::Elsewhere(slot) => {
                    self.turn_away(&head, slot, &mut connection.output);
                }
                Owner::Core(core) => {
                    let remote = connection.remote.get_or_insert_default();
                    let series = *series.get_or_insert_with(|| {
                        let head = reply_head(&RequestHead { part: None, ..head });
                        remote.open_series(head, SeriesEnd::End)
                    });
                    queue_frame(remote.queue(core, &mut self.spare), &head, &request);
                    remote.add_part(series, core);
                    self.executor.counters.forwarded_out += 1;
                }
            }
        }
        if let Some(next_part) = stopped {
            connection.resume = Some(Resume { next_part, series });
            return Taken::Not;
        }
        let output = &mut connection.output;
        match series {
            Some(series) => connection
                .remote
                .as_mut()
                .expect("a series is kept by the remote side")
                .close_series(series, output),
            None => wire::encode_reply(
                &reply_head(&RequestHead { part: None, ..*head }),
                &Reply::End,
                output,
            ),
        }
        Taken::Whole
    }

    /// Passes a request on to every core, this one included, and answers it once.
    pub(crate) fn everywhere(
        &mut self,
        connection: &mut Connection,
        head: &RequestHead,
        request: &Request<'_>,
        now: MonotonicUs,
    ) {
        // The cores of a flush say nothing; those of stats each give their part.
        let (silent, end) = match request {
            Request::Stats => (Answer::Always, SeriesEnd::End),
            _ if head.answer == Answer::Never => (Answer::Never, SeriesEnd::Silent),
            _ => (Answer::Never, SeriesEnd::Done),
        };
        let here = self.executor.config.core;
        let remote = connection.remote.get_or_insert_default();
        let series = remote.open_series(reply_head(head), end);
        for core in 0..self.executor.config.cores {
            let part = (silent == Answer::Always).then_some(core);
            // A deadline is for the whole: it was looked at before the first core.
            let head = RequestHead { answer: silent, part, deadline: None, ..*head };
            if core == here {
                self.execute_here(&head, request, now, &mut connection.output);
            } else {
                queue_frame(remote.queue(core, &mut self.spare), &head, request);
                remote.add_part(series, core);
                self.executor.counters.forwarded_out += 1;
            }
        }
        remote.close_series(series, &mut connection.output);
    }
}

fn queue_frame(queue: &mut Vec<u8>, head: &RequestHead, request: &Request<'_>) {
    let epoch = match head.stand_in {
        StandIn::No => ShortEpoch::default(),
        // The core that has it asks whether it goes by the same topology.
        StandIn::Yes => head.epoch,
    };
    let head = RequestHead { epoch, ..*head };
    wire::encode_request(&head, request, queue).expect("what was decoded can be encoded");
}
