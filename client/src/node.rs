//! One node: how to reach it, what it said of itself, and a lane to each of its cores.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use corelane_protocol::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use corelane_protocol::{ShortEpoch, Status};
use corelane_ring::{Core, CoreMap, CoreMapError, Slot};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::runtime::Handle;

use crate::address::{Address, Endpoint};
use crate::chance::Chance;
use crate::clock::Clock;
use crate::connection::{Connection, Room};
use crate::connector::Connector;
use crate::driver::drive;
use crate::epoch::ToldEpoch;
use crate::error::{ConnectError, ConnectFailure, Error};
use crate::hello::{Facts, Welcomed, say_hello};
use crate::join::join_all;
use crate::lane::Lane;
use crate::machine::Machine;
use crate::retries::RetryBudget;

/// What a request finds when its node cannot be reached at the moment, between two attempts
/// to connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenDown {
    /// It fails at once, with what the last attempt came to.
    #[default]
    FailFast,
    /// It waits for the next attempt, if that comes before its deadline.
    Wait,
}

/// How a node is spoken to.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) address: Address,
    pub(crate) token: Box<[u8]>,
    pub(crate) connect_timeout: Duration,
    /// How long the connections' own requests may take.
    pub(crate) timeout: Duration,
    pub(crate) overdue: Duration,
    pub(crate) connections_per_core: u16,
    pub(crate) room: Room,
    pub(crate) when_down: WhenDown,
    /// What opens streams instead of the client's own sockets.
    pub(crate) connector: Option<Arc<dyn Connector>>,
    pub(crate) chance: Chance,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) runtime: Handle,
    /// Shared by all nodes of a fleet.
    pub(crate) retries: Arc<RetryBudget>,
    told: Arc<ToldEpoch>,
    /// Replaced as a whole when the node comes back with other cores.
    layout: RwLock<Arc<Layout>>,
}

/// Which lane leads to a key, by what the node said last.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) facts: Facts,
    cores: CoreMap,
    /// By core, and for each core as many as there are connections to it.
    lanes: Vec<Arc<Lane>>,
    connections_per_core: u16,
}

impl Layout {
    /// The lanes of cores that `before` has too are kept.
    fn new(
        facts: Facts,
        connections_per_core: u16,
        before: Option<&Layout>,
    ) -> Result<Layout, CoreMapError> {
        // A node that names no ranges spreads its slots evenly.
        let cores = match facts.ranges.as_slice() {
            [] => CoreMap::even(facts.cores)?,
            ranges => CoreMap::from_ranges(facts.cores, ranges.iter().copied())?,
        };
        let kept = before.map_or(&[][..], |layout| &layout.lanes);
        let count = usize::from(facts.cores) * usize::from(connections_per_core);
        let lane = |index: usize| match kept.get(index) {
            Some(lane) => Arc::clone(lane),
            None => Arc::new(Lane::down(core_of(index, connections_per_core))),
        };
        let lanes = (0..count).map(lane).collect();
        Ok(Layout { facts, cores, lanes, connections_per_core })
    }

    /// Which lane a slot's requests take. It is always the same one, since only requests of
    /// one connection keep their order.
    pub(crate) fn lane_of(&self, slot: Slot) -> usize {
        let core = self.cores.core_of(slot).index();
        let per_core = usize::from(self.connections_per_core);
        core * per_core + slot.index() % per_core
    }

    pub(crate) fn lane(&self, index: usize) -> Option<&Arc<Lane>> {
        self.lanes.get(index)
    }

    /// How many lanes there are.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Longest key that may be sent, in bytes.
    pub(crate) fn key_bytes_max(&self) -> usize {
        self.facts.key_bytes_max.min(KEY_BYTES_MAX)
    }

    /// Longest value that may be sent, in bytes.
    pub(crate) fn value_bytes_max(&self) -> usize {
        self.facts.value_bytes_max.min(VALUE_BYTES_MAX)
    }
}

fn core_of(lane: usize, connections_per_core: u16) -> Core {
    // There are at most 65,535 cores.
    Core((lane / usize::from(connections_per_core)) as u16)
}

impl Node {
    /// A node that was not spoken to yet. Until it has said what it is, it is taken to have
    /// one core.
    pub(crate) fn unmet(settings: Settings, clock: Clock, retries: Arc<RetryBudget>) -> Arc<Node> {
        let guess = Facts {
            node_name: "".into(),
            cores: 1,
            key_bytes_max: KEY_BYTES_MAX,
            value_bytes_max: VALUE_BYTES_MAX,
            ranges: Vec::new(),
        };
        let layout = Layout::new(guess, settings.connections_per_core, None)
            .expect("one core owns all slots");
        let layout = RwLock::new(Arc::new(layout));
        let (runtime, told) = (Handle::current(), Arc::default());
        Arc::new(Node { settings, clock, runtime, retries, told, layout })
    }

    /// Says hello, learns what the node is, and opens a connection to each of its cores.
    ///
    /// # Errors
    /// Any of these connections failed. (Later ones are made when they are needed.)
    pub(crate) async fn meet(self: &Arc<Node>) -> Result<(), ConnectError> {
        let limit = self.settings.connect_timeout;
        let deadline = self.clock.now().plus(limit);
        let met = async {
            let guessed = self.layout();
            let ready = |lane: &Arc<Lane>| {
                let lane = Arc::clone(lane);
                async move { lane.ready(self, deadline, WhenDown::FailFast).await }
            };
            ready(guessed.lane(0).expect("a node has a core")).await?;
            let layout = self.layout();
            let attempts = layout.lanes.iter().map(ready).collect();
            join_all(attempts).await.into_iter().try_for_each(|attempt| attempt.map(drop))
        };
        met.await.map_err(|error| match error {
            Error::Unreachable(error) => error,
            Error::Unauthorized => self.settings.address.error(ConnectFailure::Unauthorized),
            _ => self.settings.address.error(ConnectFailure::Timeout(limit)),
        })
    }

    /// The epoch of the topology that the node knows; 0 while it has told of none.
    pub(crate) fn told_epoch(&self) -> ShortEpoch {
        self.told.get()
    }

    /// What is known of the node's cores at the moment.
    pub(crate) fn layout(&self) -> Arc<Layout> {
        Arc::clone(&self.layout.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens a connection to a core, and takes in what the node says of itself.
    pub(crate) async fn open(&self, core: Core) -> Result<Arc<Connection>, ConnectError> {
        let (welcomed, connection) = match self.hello(Some(core)).await {
            // The node came back with fewer cores. Any of them serves this request, and its
            // welcome says how things stand.
            Err(ConnectError {
                reason: ConnectFailure::Refused { status: Status::NoSuchCore, .. },
                ..
            }) => self.hello(None).await?,
            other => other?,
        };
        self.told.tell(welcomed.epoch);
        self.learn(welcomed.facts)?;
        Ok(connection)
    }

    fn learn(&self, facts: Facts) -> Result<(), ConnectError> {
        if self.layout().facts == facts {
            return Ok(());
        }
        let mut layout = self.layout.write().unwrap_or_else(PoisonError::into_inner);
        let next = Layout::new(facts, self.settings.connections_per_core, Some(&layout))
            .map_err(|error| self.settings.address.error(error.into()))?;
        let before = std::mem::replace(&mut *layout, Arc::new(next));
        drop(layout);
        // Lanes that are gone close their connections; not under the lock.
        drop(before);
        Ok(())
    }

    async fn hello(&self, core: Option<Core>) -> Result<(Welcomed, Arc<Connection>), ConnectError> {
        let settings = &self.settings;
        let limit = settings.connect_timeout;
        let opening = async {
            if let Some(connector) = &settings.connector {
                let stream = connector.connect(settings.address.as_str()).await?;
                return self.start(stream, core).await;
            }
            match settings.address.endpoint() {
                Endpoint::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    self.start(stream, core).await
                }
                #[cfg(unix)]
                Endpoint::Unix(path) => self.start(UnixStream::connect(path).await?, core).await,
                #[cfg(not(unix))]
                Endpoint::Unix(_) => Err(ConnectFailure::Address),
            }
        };
        match tokio::time::timeout(limit, opening).await {
            Ok(result) => result.map_err(|reason| settings.address.error(reason)),
            Err(_elapsed) => Err(settings.address.error(ConnectFailure::Timeout(limit))),
        }
    }

    async fn start<S>(
        &self,
        mut stream: S,
        core: Option<Core>,
    ) -> Result<(Welcomed, Arc<Connection>), ConnectFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let settings = &self.settings;
        let (welcomed, reader) = say_hello(&mut stream, &settings.token, core, self.clock).await?;
        let machine = Machine::new(welcomed.clock, settings.overdue, settings.timeout);
        let told = Arc::clone(&self.told);
        let connection = Arc::new(Connection::new(machine, settings.room, self.clock, told));
        self.runtime.spawn(drive(stream, reader, Arc::clone(&connection)));
        Ok((welcomed, connection))
    }
}
