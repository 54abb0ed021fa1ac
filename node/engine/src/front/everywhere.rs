//! What concerns more than one core, or the node itself.

use corelane_dialect::{Control, Gather, Moment};
use corelane_protocol::wire::between_cores;
use corelane_protocol::{
    Answer, ClientErrand, MonotonicUs, Reply, Request, RequestHead, RequestId,
};

use super::Wish;
use super::order::{self, Commands, Gathering, World};
use super::replies::say;
use super::steps::Target;
use super::walk::Walk;
use crate::connection::Connection;
use crate::dispatch::Dispatcher;

impl Dispatcher {
    /// Sends one request to every core, or from core to core where it is a walk.
    pub(super) fn everywhere_in(
        &mut self,
        connection: &mut Connection,
        commands: &mut Commands,
        head: &RequestHead,
        request: &Request<'_>,
        gathering: Gathering,
        moment: Moment,
    ) {
        if order::is_walk(request) {
            let walk = Walk::new(*head, request, gathering).expect("it is a walk");
            commands.walk(walk);
            // Each step is a turn's work, the first included.
            connection.walks = true;
            return;
        }
        let cores = self.executor.config.cores;
        let here = self.executor.config.core;
        let first = match request {
            Request::RandomKey => commands.any_key(*head, cores, gathering),
            _ => commands.gathered(gathering, u32::from(cores)),
        };
        for core in 0..cores {
            let serial = first.wrapping_add(u32::from(core)) & (u32::MAX >> 1);
            let head = RequestHead { id: RequestId(serial), answer: Answer::Always, ..*head };
            if core == here {
                let mut frames = std::mem::take(&mut self.desk.frames);
                self.execute_here(&head, request, moment.now, &mut frames);
                self.take_replies(commands, &frames, &mut connection.output, moment);
                frames.clear();
                self.desk.frames = frames;
            } else {
                self.forward(connection, core, &head, request);
            }
        }
    }

    /// Takes the next step of the walk that a connection is on.
    pub(crate) fn walk_on(&mut self, connection: &mut Connection, now: MonotonicUs) {
        connection.walks = false;
        let Some(mut dialect) = connection.dialect.take() else { return };
        let moment = self.moment(now);
        if let Some((serial, walk)) = dialect.commands.walk_mut() {
            let (head, request) = walk.step();
            let mut step = Vec::new();
            let head = RequestHead { id: RequestId(serial), answer: Answer::Always, ..head };
            between_cores::encode_request(&head, &request, &mut step)
                .expect("what a dialect asks can be encoded");
            match self.target_of(&request) {
                Target::Core(core) => {
                    self.executor.counters.forwarded_out += 1;
                    let remote = connection.remote.get_or_insert_default();
                    remote.queue(core, &mut self.spare).extend_from_slice(&step);
                }
                _ => {
                    let mut frames = std::mem::take(&mut self.desk.frames);
                    self.executor.execute(&head, &request, now, &mut frames);
                    self.take_replies(
                        &mut dialect.commands,
                        &frames,
                        &mut connection.output,
                        moment,
                    );
                    frames.clear();
                    self.desk.frames = frames;
                    connection.walks = dialect.commands.walk_mut().is_some();
                }
            }
        }
        connection.dialect = Some(dialect);
        self.answer_whole(connection, moment);
    }

    /// What concerns the node or its connections.
    pub(super) fn control(
        &mut self,
        connection: &mut Connection,
        commands: &mut Commands,
        control: Control<'_>,
        gather: Gather,
        moment: Moment,
    ) {
        let gathering =
            Gathering::new(gather).unwrap_or_else(|| unreachable!("cores are answered together"));
        let (errand, filter) = match control {
            Control::ListClients(filter) => (ClientErrand::List, filter),
            Control::CloseClients(filter) => (ClientErrand::Close, filter),
            Control::Configure(settings) => {
                self.desk.settings = Some((settings, commands.awaited(gathering)));
                return;
            }
            Control::Shutdown => {
                self.desk.wishes.push(Wish::Shutdown);
                return self.granted(connection, commands, gathering, moment);
            }
        };
        let mut encoded = Vec::new();
        filter.encode(&mut encoded);
        let request = Request::Clients { errand, filter: &encoded };
        let cores = self.executor.config.cores;
        let first = commands.gathered(gathering, u32::from(cores));
        for core in 0..cores {
            let serial = first.wrapping_add(u32::from(core)) & (u32::MAX >> 1);
            let head = RequestHead { id: RequestId(serial), ..RequestHead::default() };
            if core == self.executor.config.core {
                // Whoever keeps the connections carries it out.
                between_cores::encode_request(&head, &request, &mut self.desk.errands)
                    .expect("what a dialect asks can be encoded");
            } else {
                self.forward(connection, core, &head, &request);
            }
        }
    }

    /// Answers that something is being done.
    fn granted(
        &mut self,
        connection: &mut Connection,
        commands: &mut Commands,
        mut gathering: Gathering,
        moment: Moment,
    ) {
        gathering.add(&Reply::Done { version: None }, moment);
        let mut said = Vec::new();
        gathering.finish(World { facts: &self.view(None, moment.now), moment }, &mut said);
        say(connection, commands, &said);
    }
}
