//! Follows a list of nodes that others keep: a file, or a name whose addresses are the nodes.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::Duration;

use corelane_ring::Node as Place;

use crate::fleet::Fleet;
use crate::fleet::spec::{NodesError, parse, parse_lines};
use crate::limits::NODES_FILE_BYTES_MAX;

/// Where a list of nodes is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// One node a line.
    File(PathBuf),
    /// `host:port`; each of the host's addresses is a node, named by it.
    Name(String),
}

impl Source {
    /// Reads the list as it is now.
    ///
    /// # Errors
    /// It cannot be read, or what it says makes no sense.
    pub(crate) async fn read(&self) -> Result<Vec<Place>, NodesError> {
        match self {
            Source::File(path) => {
                let path = path.clone();
                let reading = tokio::task::spawn_blocking(move || read_file(&path)).await;
                parse_lines(&reading.map_err(source)?.map_err(source)?)
            }
            Source::Name(name) => {
                let found = tokio::net::lookup_host(name).await.map_err(source)?;
                // In order, since resolvers shuffle their answers.
                let addresses: BTreeSet<String> = found.map(|found| found.to_string()).collect();
                addresses.iter().map(|address| parse(address)).collect()
            }
        }
    }
}

fn source(error: impl ToString) -> NodesError {
    NodesError::Source { reason: error.to_string() }
}

fn read_file(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(NODES_FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Looks at the source again and again, for as long as the fleet is there. A list that cannot
/// be read, or that is empty or wrong, changes nothing: the nodes in use stay.
pub(crate) async fn follow(
    source: Source,
    fleet: Weak<Fleet>,
    mut current: Vec<Place>,
    interval: Duration,
) {
    loop {
        tokio::time::sleep(interval).await;
        let read = source.read().await;
        let Some(fleet) = Weak::upgrade(&fleet) else { return };
        if let Ok(places) = read
            && places != current
            && fleet.set_nodes(places.clone()).is_ok()
        {
            current = places;
        }
    }
}
