//! One data core: a pinned thread that makes its driver and its engine, and runs the loop.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use corelane_engine::{Engine, EngineConfig, Wish};
use corelane_mesh::End;
use corelane_shard::Prefaulter;
use crossbeam_channel::{Receiver, Sender};

use crate::affinity;
use crate::budget::{RECEIVE_BUFFER_BYTES, RECEIVE_BUFFERS};
use crate::clock::Clock;
use crate::config::MemoryNodes;
use crate::control::CoreSnapshot;
use crate::driver::{self, Driver, DriverConfig, EpollDriver, UringDriver, Waker};
use crate::event_loop::{Command, Cpu, EventLoop, REFUSED_MAX};
use crate::gate::Gate;
use crate::lanes::{CoreMail, Lanes};
use crate::spinner::Spinner;
use crate::start::{IoKind, StartError};

/// What a core is made of.
pub(crate) struct CoreParts {
    pub(crate) engine: EngineConfig,
    /// The CPU that it stays on, if it does.
    pub(crate) cpu: Option<usize>,
    /// Which memory node the shard's memory comes from.
    pub(crate) memory_nodes: MemoryNodes,
    pub(crate) io: IoKind,
    /// Longest spin before a sleep, in microseconds.
    pub(crate) spin_us: u64,
    pub(crate) connections_max: u32,
    pub(crate) listeners: Vec<OwnedFd>,
    pub(crate) end: End<CoreMail>,
    pub(crate) commands: Receiver<Command>,
    pub(crate) snapshot: Arc<CoreSnapshot>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) clock: Clock,
    /// Where what clients ask of the node goes.
    pub(crate) wishes: Sender<Wish>,
    /// Where the core tells that it is made, or why not.
    pub(crate) made: Sender<Result<Made, StartError>>,
    /// Where it then gets what it needs to start.
    pub(crate) start: Receiver<Arc<[Waker]>>,
}

/// A core that is ready to start.
pub(crate) struct Made {
    pub(crate) core: u16,
    pub(crate) waker: Waker,
    /// The thread's id, as the system knows it.
    pub(crate) thread: i32,
    pub(crate) prefaulter: Prefaulter,
}

/// Runs a core to its end. Called on the core's own thread, since a ring belongs to the
/// thread that makes it.
pub(crate) fn run(parts: CoreParts) {
    let config = DriverConfig {
        connections_max: parts.connections_max + REFUSED_MAX as u32,
        buffers: RECEIVE_BUFFERS,
        buffer_bytes: RECEIVE_BUFFER_BYTES,
    };
    match parts.io {
        IoKind::Uring => run_on(parts, UringDriver::new(config)),
        IoKind::Epoll => run_on(parts, EpollDriver::new(config)),
    }
}

fn run_on<D: Driver>(parts: CoreParts, driver: Result<(D, Waker), driver::StartError>) {
    let core = parts.engine.core;
    if let Some(cpu) = parts.cpu
        && !core_affinity::set_for_current(core_affinity::CoreId { id: cpu })
    {
        tracing::warn!("core {core} could not be pinned to CPU {cpu}");
    }
    let (clock, made) = (parts.clock, parts.made);
    let connections_max = parts.connections_max as usize + REFUSED_MAX;
    let prepared = driver.map_err(StartError::from).and_then(|(mut driver, waker)| {
        for listener in parts.listeners {
            driver.listen(listener).map_err(StartError::Listen)?;
        }
        let mut config =
            EngineConfig { now: clock.now(), unix_ms: crate::clock::unix_ms(), ..parts.engine };
        config.shard.memory_node = match parts.memory_nodes {
            MemoryNodes::Local => parts.cpu.and_then(affinity::memory_node),
            MemoryNodes::Any => None,
        };
        // Pinned before: the tables' first pages come from this CPU's memory.
        let mut engine = Engine::new(config)?;
        engine.reserve_connections(connections_max);
        Ok((driver, engine, waker))
    });
    let (driver, engine) = match prepared {
        Ok((driver, engine, waker)) => {
            let (thread, prefaulter) = (affinity::thread_id(), engine.prefaulter());
            if made.send(Ok(Made { core, waker, thread, prefaulter })).is_err() {
                return;
            }
            (driver, engine)
        }
        Err(error) => {
            // The node that waits for it gives up; nobody else is there to hear it.
            let _ = made.send(Err(error));
            return;
        }
    };
    // Where another core could not be made, the node gives up and nobody sends.
    let Ok(wakers) = parts.start.recv() else { return };
    let event_loop = EventLoop {
        driver,
        engine,
        lanes: Lanes::new(parts.end, wakers),
        commands: parts.commands,
        wishes: parts.wishes,
        snapshot: parts.snapshot,
        gate: parts.gate,
        clock,
        spinner: Spinner::new(parts.spin_us),
        cpu: if parts.cpu.is_some() { Cpu::Own } else { Cpu::Shared },
        sleeps: 0,
        refused: Vec::new(),
        mails: Vec::new(),
    };
    if let Err(error) = event_loop.run() {
        // A core that is gone takes its slots with it: the node cannot go on in part.
        panic!("core {core} cannot go on: {error}");
    }
}
