//! Keeps the topology in force, and the file that outlives the process.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corelane_engine::{ClusterView, TopologyTooLong};
use corelane_ring::{CoreMap, Epoch, NodeName, Topology};

use super::format::{self, FormatError};

/// Why a topology file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("the topology file {}: {error}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It holds no topology.
    #[error("the topology file {}: {error}", path.display())]
    Format {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        error: Box<FormatError>,
    },
    /// The node cannot serve it.
    #[error("the topology file {}: {error}", path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: TopologyTooLong,
    },
}

/// Why a new topology was not taken; the one before it stays in force.
#[derive(Debug, thiserror::Error)]
pub enum RefusedTopology {
    /// Epochs only grow.
    #[error("epoch {} is in force, and epoch {} is not higher", in_force.0, offered.0)]
    Stale {
        /// The one in force.
        in_force: Epoch,
        /// The one offered.
        offered: Epoch,
    },
    /// The node cannot serve it.
    #[error(transparent)]
    TooLong(#[from] TopologyTooLong),
    /// It could not be kept for the next start.
    #[error("cannot write {}: {error}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Whether a topology that was offered is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is in force now.
    New,
    /// It was in force already.
    Same,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Keeper {
    name: NodeName,
    cores: u16,
    /// For how long slots that move are kept and warmed, in milliseconds.
    warm_up_ms: u64,
    file: Option<PathBuf>,
    in_force: Mutex<Option<Arc<ClusterView>>>,
}

impl Keeper {
    /// Begins with the topology of `file`, if one is given.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub(crate) fn open(
        name: NodeName,
        cores: u16,
        warm_up_ms: u64,
        file: Option<PathBuf>,
    ) -> Result<Keeper, LoadError> {
        let view = file.as_deref().map(|path| load(path, &name, cores)).transpose()?;
        Ok(Keeper { name, cores, warm_up_ms, file, in_force: Mutex::new(view.map(Arc::new)) })
    }

    /// The topology in force, as the cores have it or will shortly.
    pub(crate) fn in_force(&self) -> Option<Arc<ClusterView>> {
        self.lock().clone()
    }

    /// Replaces the topology in force by a later one, and tells it to the cores by `tell`.
    ///
    /// # Errors
    /// See [`RefusedTopology`].
    pub(crate) fn offer(
        &self,
        topology: Topology,
        tell: impl FnOnce(Arc<ClusterView>),
    ) -> Result<Taken, RefusedTopology> {
        // Held until the cores are told, so that they hear of epochs in order.
        let mut in_force = self.lock();
        if let Some(view) = &*in_force {
            if *view.topology() == topology {
                return Ok(Taken::Same);
            }
            let (in_force, offered) = (view.topology().epoch(), topology.epoch());
            if offered <= in_force {
                return Err(RefusedTopology::Stale { in_force, offered });
            }
        }
        let view = match &*in_force {
            Some(before) => ClusterView::following(before, topology, &self.name, self.warm_up_ms)?,
            None => {
                let even = CoreMap::even(self.cores).expect("the node runs on so many cores");
                ClusterView::after(&even, topology, &self.name)?
            }
        };
        if let Some(path) = &self.file {
            replace(path, &format::print(view.topology()))
                .map_err(|error| RefusedTopology::Write { path: path.clone(), error })?;
        }
        let view = Arc::new(view);
        *in_force = Some(Arc::clone(&view));
        tell(view);
        Ok(Taken::New)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<ClusterView>>> {
        // What it guards is replaced whole, so a panic leaves nothing half done.
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(path: &Path, name: &NodeName, cores: u16) -> Result<ClusterView, LoadError> {
    let text = fs::read_to_string(path)
        .map_err(|error| LoadError::Read { path: path.to_owned(), error })?;
    let topology = format::parse(&text)
        .map_err(|error| LoadError::Format { path: path.to_owned(), error: Box::new(error) })?;
    ClusterView::first(cores, topology, name)
        .map_err(|error| LoadError::TooLong { path: path.to_owned(), error })
}

/// Writes a file beside `path` and renames it, so that there is always a whole one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut file = fs::File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(epoch: u64, names: &[&str]) -> String {
        let node =
            |name: &&str| format!("[[nodes]]\nname = \"{name}\"\naddresses = [\"{name}:1\"]\n");
        format!("epoch = {epoch}\n{}", names.iter().map(node).collect::<String>())
    }

    fn topology(epoch: u64, names: &[&str]) -> Topology {
        format::parse(&text(epoch, names)).unwrap()
    }

    fn keeper(file: Option<&Path>) -> Result<Keeper, LoadError> {
        Keeper::open(NodeName::new("a").unwrap(), 4, 0, file.map(Path::to_owned))
    }

    #[test]
    fn epochs_only_grow_and_the_last_good_one_stays() {
        let keeper = keeper(None).unwrap();
        assert!(keeper.in_force().is_none());
        let offer = |topology| {
            let mut told = None;
            let result = keeper.offer(topology, |view| told = Some(view.topology().epoch().0));
            (result.map_err(|error| error.to_string()), told)
        };
        assert_eq!(offer(topology(5, &["a", "b"])), (Ok(Taken::New), Some(5)));
        assert_eq!(offer(topology(5, &["a", "b"])), (Ok(Taken::Same), None));
        for stale in [topology(5, &["a"]), topology(4, &["a", "b"])] {
            let (result, told) = offer(stale);
            assert!(result.unwrap_err().starts_with("epoch 5 is in force"));
            assert_eq!(told, None);
        }
        assert_eq!(keeper.in_force().unwrap().topology().epoch(), Epoch(5));
        assert_eq!(offer(topology(6, &["b"])), (Ok(Taken::New), Some(6)));
    }

    #[test]
    fn what_was_taken_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("topology.toml");
        assert!(matches!(keeper(Some(&path)), Err(LoadError::Read { .. })));
        fs::write(&path, "nonsense").unwrap();
        assert!(matches!(keeper(Some(&path)), Err(LoadError::Format { .. })));
        fs::write(&path, text(1, &["a", "b"])).unwrap();
        let first = keeper(Some(&path)).unwrap();
        assert_eq!(first.in_force().unwrap().topology(), &topology(1, &["a", "b"]));
        let next = topology(2, &["a", "b", "c"]);
        first.offer(next.clone(), |_| ()).unwrap();
        let again = keeper(Some(&path)).unwrap();
        assert_eq!(again.in_force().unwrap().topology(), &next);
    }

    #[test]
    fn what_cannot_be_kept_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("topology.toml");
        fs::write(&path, text(1, &["a"])).unwrap();
        let keeper = keeper(Some(&path)).unwrap();
        drop(directory);
        let refused = keeper.offer(topology(2, &["a"]), |_| panic!("nobody is told"));
        assert!(matches!(refused, Err(RefusedTopology::Write { .. })));
        assert_eq!(keeper.in_force().unwrap().topology().epoch(), Epoch(1));
    }
}
