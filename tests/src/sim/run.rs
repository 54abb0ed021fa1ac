//! One simulated run from start to end.

use corelane_engine::counters::Counters;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::sim::client::{Client, Life};
use crate::sim::ledger::Ledger;
use crate::sim::link::{ClientEnd, Place};
use crate::sim::scenario::{Clock, Family, Scenario};
use crate::sim::workload::{Workload, own_keys};
use crate::sim::world::{Pace, World};

/// Eager rounds without any progress after which a run is stuck.
const ROUNDS_WITHOUT_PROGRESS_MAX: u32 = 64;

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Requests sent, keys of multi-gets counted singly.
    pub operations: u64,
    /// Replies judged.
    pub judged: u64,
    /// The most mail that one lane held at a time.
    pub mails_most: usize,
    /// The counters of all cores, added up.
    pub counters: Counters,
}

/// Runs a scenario.
///
/// # Panics
/// The node did something wrong; the message says what.
pub fn run(scenario: &Scenario) -> Report {
    let mut run = Run {
        world: World::new(scenario),
        ledger: Ledger::new(scenario),
        random: SmallRng::seed_from_u64(scenario.lot),
        clients: Vec::new(),
        clients_made: 0,
        scenario,
    };
    run.load();
    if scenario.family == Family::Draining {
        run.drain();
    } else {
        run.say_goodbye();
    }
    run.report()
}

struct Run<'a> {
    scenario: &'a Scenario,
    world: World,
    ledger: Ledger,
    random: SmallRng,
    clients: Vec<Client>,
    clients_made: usize,
}

impl Run<'_> {
    fn load(&mut self) {
        let mut round = 0u64;
        while self.ledger.operations < self.scenario.operations {
            round += 1;
            self.clients.retain(|client| !matches!(client.life, Life::Over | Life::Vanished));
            while self.clients.len() < self.scenario.clients {
                self.connect();
            }
            self.round(Pace::Random);
            if self.random.random_bool(self.scenario.collapse_chance) {
                self.collapse();
            }
            if self.scenario.clock == Clock::Running {
                let us = match self.random.random_range(0..100) {
                    0 => self.random.random_range(0..20_000),
                    _ => self.random.random_range(0..40),
                };
                self.world.advance(us);
            }
            if round.is_multiple_of(64) {
                self.keep_books();
            }
            if self.random.random_bool(0.005) {
                self.settle();
                self.let_time_pass();
            }
        }
    }

    fn connect(&mut self) {
        let core = self.random.random_range(0..self.world.cores());
        let link = self.world.connect(core);
        let number = self.clients_made;
        self.clients_made += 1;
        let now = self.world.moment();
        let keys = own_keys(number, self.scenario.keys, &self.ledger, &mut self.random, now);
        let window = self.random.random_range(1..=self.scenario.window_max);
        let mut client = Client::new(number, link, keys, window);
        self.workload().greet(&mut client);
        client.push(&mut self.world);
        self.clients.push(client);
    }

    fn workload(&mut self) -> Workload<'_> {
        Workload {
            scenario: self.scenario,
            random: &mut self.random,
            ledger: &mut self.ledger,
            world: &mut self.world,
        }
    }

    /// Everybody gets a turn.
    fn round(&mut self, pace: Pace) {
        for at in 0..self.clients.len() {
            if self.random.random_bool(0.7) {
                self.act(at);
            }
        }
        self.cores_turn(pace);
    }

    fn cores_turn(&mut self, pace: Pace) {
        let cores = self.world.cores();
        let first = self.random.random_range(0..cores);
        for at in 0..cores {
            if pace == Pace::Eager || self.random.random_bool(0.8) {
                self.world.turn_of((first + at) % cores, pace);
            }
        }
    }

    /// A client hears, and sends something by lot.
    fn act(&mut self, at: usize) {
        // Taken out so that the workload can borrow the rest.
        let mut client = self.clients.swap_remove(at);
        client.hear(&mut self.world, &mut self.ledger);
        if client.life == Life::Sending {
            self.stall_or_wake(&client);
            let reads_only = self.random.random_bool(0.1);
            let burst_max = self.scenario.burst_max * if reads_only { 8 } else { 1 };
            let burst = self.random.random_range(0..=burst_max);
            let mut workload = self.workload();
            for _ in 0..burst {
                if client.under_way() >= client.window {
                    break;
                }
                if reads_only {
                    workload.read_one(&mut client);
                } else {
                    workload.send_one(&mut client);
                }
            }
            match self.random.random_range(0..10_000) {
                0..10 => client.finish(&mut self.world),
                10..17 => client.vanish(&mut self.world),
                17..22 => self.workload().misdeed(&mut client),
                _ => {}
            }
        }
        if client.life != Life::Over && client.life != Life::Vanished {
            client.push_if_open(&mut self.world);
        }
        self.clients.push(client);
        let last = self.clients.len() - 1;
        self.clients.swap(at, last);
    }

    /// Nearly everybody vanishes, and nobody sends anything: what the others wait for must
    /// come nevertheless.
    fn collapse(&mut self) {
        for client in &mut self.clients {
            if client.life == Life::Sending && self.random.random_bool(0.9) {
                client.vanish(&mut self.world);
            }
        }
        for _ in 0..30 {
            self.cores_turn(Pace::Random);
        }
        self.settle();
    }

    fn stall_or_wake(&mut self, client: &Client) {
        let link = &mut self.world.links[client.link];
        link.client_reads = match link.client_reads {
            true => !self.random.random_bool(self.scenario.stall_chance),
            false => self.random.random_bool(0.1),
        };
    }

    fn keep_books(&mut self) {
        let at = self.world.moment();
        self.ledger.ticked(self.world.ticked_us(), at);
        let oldest = self.clients.iter().filter_map(Client::oldest_turn).min();
        self.ledger.prune(oldest.unwrap_or(at.turn));
    }

    /// Nothing new is sent until everything under way has come to its end.
    fn settle(&mut self) {
        let mut progress = (self.world.progress, 0);
        while !self.is_settled() {
            for at in 0..self.clients.len() {
                self.world.links[self.clients[at].link].client_reads = true;
                self.clients[at].hear(&mut self.world, &mut self.ledger);
            }
            self.cores_turn(Pace::Eager);
            progress = match progress {
                (before, rounds) if before == self.world.progress => (before, rounds + 1),
                _ => (self.world.progress, 0),
            };
            assert!(progress.1 < ROUNDS_WITHOUT_PROGRESS_MAX, "stuck: {}", self.situation());
        }
        let at = self.world.moment();
        self.ledger.all_quiet(at);
        for core in 0..self.world.cores() {
            self.world.engine(core).invariants();
        }
    }

    fn is_settled(&self) -> bool {
        let clients = self.clients.iter().all(|client| match client.life {
            Life::Sending => client.under_way() == 0,
            Life::Over | Life::Vanished => true,
            Life::Finished | Life::Misbehaved { .. } => false,
        });
        let links = self.world.links.iter().all(|link| match link.place {
            Place::Gone => true,
            Place::Moving => false,
            Place::At { .. } => {
                link.client_end == ClientEnd::Open
                    && link.unread() == 0
                    && link.sending.is_none()
                    && link.to_client.is_empty()
            }
        });
        let mail = (0..self.world.cores()).all(|core| self.world.mail_under_way(core) == 0);
        clients && links && mail && self.world.lanes_are_empty()
    }

    fn situation(&self) -> String {
        let links: Vec<_> =
            self.world.links.iter().filter(|link| link.place != Place::Gone).collect();
        let clients: Vec<_> = self
            .clients
            .iter()
            .map(|client| (client.number, client.life, client.under_way(), client.link))
            .collect();
        format!("clients {clients:?}, links {links:#?}")
    }

    /// With nothing under way, the clock may jump, and housekeeping may follow or not.
    fn let_time_pass(&mut self) {
        let us = match self.random.random_range(0..4) {
            0 => 0,
            1 => self.random.random_range(0..5_000),
            2 => self.random.random_range(0..3_000_000),
            _ => self.random.random_range(0..100_000_000),
        };
        self.world.advance(us);
        if self.random.random_bool(0.5) {
            for _ in 0..20 {
                self.cores_turn(Pace::Eager);
            }
        }
        self.keep_books();
    }

    /// All clients finish, and hear the last of it.
    fn say_goodbye(&mut self) {
        for client in &mut self.clients {
            if client.life == Life::Sending {
                client.finish(&mut self.world);
            }
        }
        self.settle();
        assert!(self.world.is_empty(), "connections left: {}", self.situation());
    }

    /// The node shuts down while requests are under way and clients go on sending.
    fn drain(&mut self) {
        self.world.drain();
        let started_us = self.world.now_us();
        let drain_us_max = self.scenario.engine(0).drain_ms_max * 1_000;
        while !self.world.is_empty() {
            for at in 0..self.clients.len() {
                // Most clients heed the notice; the others send until they are shut out.
                let heeds = !self.clients[at].number.is_multiple_of(5);
                let link = self.clients[at].link;
                self.world.links[link].client_reads = true;
                if self.clients[at].told_to_leave && heeds {
                    self.clients[at].hear(&mut self.world, &mut self.ledger);
                } else if self.random.random_bool(0.5) {
                    self.act(at);
                }
            }
            self.cores_turn(Pace::Random);
            let us = self.random.random_range(0..4_000);
            self.world.advance(us);
            let drained_us = self.world.now_us() - started_us;
            assert!(drained_us < drain_us_max, "not drained in time: {}", self.situation());
        }
        for client in &mut self.clients {
            client.hear(&mut self.world, &mut self.ledger);
        }
    }

    fn report(&mut self) -> Report {
        if self.ledger.counters_last {
            self.ledger.counters.check();
        }
        let mut report = Report {
            operations: self.ledger.operations,
            judged: self.ledger.judged,
            mails_most: self.world.mails_most,
            counters: Counters::default(),
        };
        let cores = self.world.cores();
        let all: Vec<Counters> = (0..cores)
            .map(|core| {
                let engine = self.world.engine(core);
                engine.invariants();
                assert_eq!(engine.mail_under_way(), 0, "a credit is lost");
                engine.counters().clone()
            })
            .collect();
        for counters in &all {
            check_gauges(counters);
        }
        report.counters = sum(&all);
        let sum = &report.counters;
        assert_eq!(sum.mail_sent, sum.mail_received);
        assert_eq!(sum.hits + sum.misses, sum.requests_get);
        report
    }
}

fn check_gauges(counters: &Counters) {
    assert_eq!(counters.connections_open, 0);
    assert_eq!(counters.connections_paused, 0);
    assert_eq!(counters.output_bytes_pending, 0);
    assert_eq!(counters.upload_bytes_promised, 0);
    assert_eq!((counters.input_bytes_promised, counters.input_bytes_held), (0, 0));
    assert_eq!(counters.inputs_refused, 0);
    assert_eq!(
        counters.connections_opened,
        counters.connections_closed + counters.connections_handed_over
    );
    assert_eq!(counters.idle_closed, 0, "nobody was idle in the simulation");
}

/// The counters that reports are about, added up.
fn sum(all: &[Counters]) -> Counters {
    let mut sum = Counters::default();
    for counters in all {
        sum.connections_opened += counters.connections_opened;
        sum.connections_handed_over += counters.connections_handed_over;
        sum.requests_get += counters.requests_get;
        sum.hits += counters.hits;
        sum.misses += counters.misses;
        sum.failures += counters.failures;
        sum.too_late += counters.too_late;
        sum.unauthorized += counters.unauthorized;
        sum.garbled += counters.garbled;
        sum.forwarded_out += counters.forwarded_out;
        sum.forwarded_in += counters.forwarded_in;
        sum.mail_sent += counters.mail_sent;
        sum.mail_received += counters.mail_received;
        sum.evictions += counters.evictions;
        sum.expirations += counters.expirations;
        sum.out_of_memory += counters.out_of_memory;
        sum.uploads += counters.uploads;
    }
    sum
}
