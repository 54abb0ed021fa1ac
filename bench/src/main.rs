//! The load generator. `corelane-bench --help` says what it can do, README.md beside it how
//! it measures.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use corelane_bench::cli::{Cli, Command};
use corelane_bench::{
    compare, fleet, floors, idle, memory, replay, ring, run, stalls, sweep, ways,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(options) => run::run(&options).map_err(|error| error.to_string()),
        Command::Floors(options) => floors::run(&options).map_err(|error| error.to_string()),
        Command::Compare(options) => compare::run(&options).map_err(|error| error.to_string()),
        Command::Sweep(options) => sweep::run(&options).map_err(|error| error.to_string()),
        Command::Replay(options) => replay::run(&options).map_err(|error| error.to_string()),
        Command::Memory(options) => memory::run(&options).map_err(|error| error.to_string()),
        Command::Idle(options) => idle::run(&options).map_err(|error| error.to_string()),
        Command::Cores(options) => ways::cores(&options).map_err(|error| error.to_string()),
        Command::Spin(options) => ways::spin(&options).map_err(|error| error.to_string()),
        Command::Stalls(options) => stalls::run(&options).map_err(|error| error.to_string()),
        Command::Ring(options) => Ok(ring::run(&options)),
        Command::Fleet(options) => fleet::run(&options).map_err(|error| error.to_string()),
        Command::FleetNode(options) => {
            fleet::node::serve(&options).map_err(|error| error.to_string())
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("corelane-bench: {error}");
        ExitCode::FAILURE
    })
}
