//! The binary `corelane`: reads the command line, starts the node and the control thread,
//! and waits for the end.

#![forbid(unsafe_code)]

mod cli;
mod doctor;
mod logging;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

use clap::Parser;
use corelane::config::values::format_size;
use corelane::config::{Config, ConfigError, Host, Io, Resolved, resolve};
use corelane::control::{self, About, Control, ControlConfig, Ending, HttpConfig, Signals};
use corelane::node::{IoKind, Node, StartError};
use corelane::system;

use cli::{Cli, SettingFlags, Task};
use doctor::Format;

/// Values of many pages, connection buffers and everything that is not a shard's arena come
/// from here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code of a wrong configuration, which is also that of a wrong command line.
const EXIT_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let task = Cli::parse().task();
    let host = Host::read();
    let ended = match task {
        Task::Serve(settings) => {
            logging::start();
            configuration(settings, &host).and_then(|resolved| serve(resolved, &host))
        }
        Task::Config(settings) => configuration(settings, &host).map(|resolved| {
            print!("{}", resolved.to_toml());
            for warning in &resolved.warnings {
                eprintln!("warning: {warning}");
            }
            ExitCode::SUCCESS
        }),
        Task::Doctor(arguments) => {
            let format = if arguments.json { Format::Json } else { Format::Text };
            configuration(arguments.settings, &host)
                .map(|resolved| doctor::run(&resolved.config, &host, format))
        }
    };
    ended.unwrap_or_else(|failure| {
        eprintln!("corelane: {}", failure.message);
        ExitCode::from(failure.code)
    })
}

/// Why the process ends, for a person, and with which exit code.
struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    fn running(error: &impl ToString) -> Failure {
        Failure { message: error.to_string(), code: 1 }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure { message: error.to_string(), code: EXIT_CONFIGURATION }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Failure {
        let code = match error {
            StartError::Config(_) | StartError::Topology(_) => EXIT_CONFIGURATION,
            _ => 1,
        };
        Failure { message: error.to_string(), code }
    }
}

fn configuration(settings: SettingFlags, host: &Host) -> Result<Resolved, Failure> {
    Ok(resolve(&settings.sources()?, host)?)
}

/// Runs a node until it has drained.
fn serve(resolved: Resolved, host: &Host) -> Result<ExitCode, Failure> {
    let Resolved { config, warnings, .. } = resolved;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    raise_open_files(&config, host);

    let listener = bind("admin", config.admin)?;
    let admin = address_of(listener.as_ref());
    let http = bind("HTTP", config.http)?;
    let http_address = address_of(http.as_ref());
    let value_bytes_max = config.value_bytes_max;
    let control = Control::start(ControlConfig {
        listener,
        http: http.map(|listener| HttpConfig { listener, value_bytes_max }),
        auth_token: config.auth_token.clone(),
        about: about(&config),
        signals: Signals::Process,
    })
    .map_err(|error| Failure::running(&error))?;

    let memory = format_size(config.memory);
    let node = Node::start(config)?;
    control.attach(node.control());

    let addresses: Vec<String> = node.addresses().iter().map(ToString::to_string).collect();
    // Whoever started the node may wait for this line, whatever the log's level; if nobody
    // reads it, that is no reason to end.
    let _ = writeln!(
        io::stdout(),
        "corelane {} ready: listen={} admin={admin} http={http_address} cores={} memory={memory} io={}",
        env!("CARGO_PKG_VERSION"),
        addresses.join(","),
        node.core_threads().len(),
        node.io().name(),
    );
    node.wait().map_err(|error| Failure::running(&error))?;
    match control.stop() {
        Ending::Drained => {
            tracing::info!("drained");
            Ok(ExitCode::SUCCESS)
        }
        Ending::Forced => Ok(ExitCode::FAILURE),
    }
}

fn bind(port: &'static str, address: Option<SocketAddr>) -> Result<Option<TcpListener>, Failure> {
    let bound = address.map(|address| control::bind(port, address)).transpose();
    bound.map_err(|error| Failure::running(&error))
}

/// Where a listener is, in words.
fn address_of(listener: Option<&TcpListener>) -> String {
    let address = listener.and_then(|listener| listener.local_addr().ok());
    address.map_or("none".to_owned(), |address| address.to_string())
}

fn about(config: &Config) -> About {
    About {
        version: env!("CARGO_PKG_VERSION"),
        node_name: config.node_name.to_string(),
        io: match config.io {
            Io::Auto | Io::Uring => IoKind::Uring,
            Io::Epoll => IoKind::Epoll,
        }
        .name(),
        memory: config.memory,
    }
}

/// Raises the soft limit of open files where it is under what the node may need. The hard
/// limit was checked with the configuration.
fn raise_open_files(config: &Config, host: &Host) {
    if host.open_files.soft >= config.descriptors(host) {
        return;
    }
    if let Err(error) = system::raise_open_files() {
        tracing::warn!(
            "the soft limit of open files stays {}, under the {} that --connections-max may need: \
             {error}",
            host.open_files.soft,
            config.descriptors(host),
        );
    }
}
