//! A node in a process of its own, which is this binary again: it can be killed without warning.
//! It ends by itself when the process that started it does.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::time::Duration;

use clap::Args;
use corelane::config::values::parse_size;
use corelane::config::{Config, Cores, ListenAddress, Pin};
use corelane::control::{self, About, Control, ControlConfig, Signals};
use corelane::node::Node as Server;

use super::FleetError;

/// Longest wait for an answer of the admin port.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Options of the process of a node.
#[derive(Clone, Debug, Args)]
pub struct NodeOptions {
    /// What the node calls itself.
    #[arg(long)]
    pub name: String,
    /// Its data cores.
    #[arg(long)]
    pub cores: u16,
    /// Its memory.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: u64,
}

/// Why the process of a node ends early.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The name cannot be.
    #[error("{0}")]
    Name(#[from] corelane::config::ValueError),
    /// The admin port is not to be had.
    #[error(transparent)]
    Control(#[from] control::ControlError),
    /// The node did not start.
    #[error(transparent)]
    Start(#[from] corelane::node::StartError),
    /// Nobody is there to be told where it listens.
    #[error("cannot tell where the node listens: {0}")]
    Output(#[from] io::Error),
}

/// Serves until standard input ends.
///
/// # Errors
/// It cannot.
pub fn serve(options: &NodeOptions) -> Result<ExitCode, ServeError> {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = Config {
        node_name: options.name.parse()?,
        listen: vec![ListenAddress::Tcp(loopback)],
        admin: None,
        cores: Cores::Count(options.cores),
        pin: Pin::Off,
        memory: options.memory,
        ..Config::default()
    };
    let listener = control::bind("admin", loopback)?;
    let admin = listener.local_addr()?;
    let server = Server::start(config)?;
    let control = Control::start(ControlConfig {
        listener: Some(listener),
        http: None,
        auth_token: None,
        about: About {
            version: env!("CARGO_PKG_VERSION"),
            node_name: options.name.clone(),
            io: server.io().name(),
            memory: options.memory,
        },
        signals: Signals::Ignored,
    })?;
    control.attach(server.control());
    println!("{} {admin}", server.addresses()[0]);
    io::stdout().flush()?;
    // Whatever comes there, its end is the end.
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(ExitCode::SUCCESS)
}

/// The process of a node, as the one that started it sees it. Dropping it ends it.
pub(super) struct Node {
    name: String,
    address: String,
    admin: String,
    child: Child,
    /// Its end tells the node to end.
    _stdin: ChildStdin,
}

impl Node {
    pub(super) fn start(name: &str, cores: u16) -> Result<Node, FleetError> {
        let failed = |error| FleetError::Node { name: name.to_owned(), error };
        let memory = format!("{}MiB", 64 * u32::from(cores));
        let cores = cores.to_string();
        let mut child = Command::new(std::env::current_exe().map_err(failed)?)
            .args(["fleet-node", "--name", name, "--cores", &cores, "--memory", &memory])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let stdin = child.stdin.take().expect("a pipe was asked for");
        let stdout = child.stdout.take().expect("a pipe was asked for");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).map_err(failed)?;
        let Some((address, admin)) = line.trim_end().split_once(' ') else {
            // What it has to say stands on its standard error.
            return Err(failed(io::Error::other("the node did not start")));
        };
        let (address, admin) = (address.to_owned(), admin.to_owned());
        Ok(Node { name: name.to_owned(), address, admin, child, _stdin: stdin })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// As a client takes it.
    pub(super) fn spec(&self) -> String {
        format!("{}={}", self.name, self.address)
    }

    /// Ends it without warning.
    pub(super) fn kill(mut self) {
        // It is ours and was not waited for, so this cannot miss.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(super) fn put_topology(&self, text: &str) -> Result<(), FleetError> {
        self.ask("PUT /topology", text).map(drop)
    }

    /// Sums over its cores.
    pub(super) fn counters<const N: usize>(
        &self,
        names: [&str; N],
    ) -> Result<[u64; N], FleetError> {
        let metrics = self.ask("GET /metrics", "")?;
        Ok(names.map(|name| sum_of(&metrics, name)))
    }

    fn ask(&self, what: &str, body: &str) -> Result<String, FleetError> {
        exchange(&self.admin, what, body)
            .map_err(|error| FleetError::Node { name: self.name.clone(), error })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request to an admin port; the body of an answer that says yes.
fn exchange(address: &str, what: &str, body: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ADMIN_TIMEOUT))?;
    let length = body.len();
    write!(
        stream,
        "{what} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| io::Error::other("the admin port gave no answer"))?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(io::Error::other(format!("{what}: {}", body.trim_end()))),
    }
}

/// The sum of a number over the cores, in the text of `/metrics`.
fn sum_of(metrics: &str, name: &str) -> u64 {
    let starts = ["_total{", "{"].map(|suffix| format!("corelane_{name}{suffix}"));
    metrics
        .lines()
        .filter(|line| starts.iter().any(|start| line.starts_with(start)))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_summed_over_cores() {
        let metrics = "# HELP corelane_hits Reads.\n\
                       corelane_hits_total{core=\"0\"} 5\n\
                       corelane_hits_total{core=\"1\"} 7\n\
                       corelane_items{core=\"0\"} 3\n";
        assert_eq!(sum_of(metrics, "hits"), 12);
        assert_eq!(sum_of(metrics, "items"), 3);
        assert_eq!(sum_of(metrics, "misses"), 0);
    }
}
