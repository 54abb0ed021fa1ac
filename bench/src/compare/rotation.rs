//! Turns: in each, every contender has one slice of load. The order is another one in every
//! turn, and every second turn is its predecessor backwards, so that a machine that grows
//! slower or faster meanwhile favours nobody.

use std::time::Duration;

use crate::generator::{Outcome, Plan, Task};
use crate::measure::paired::Samples;
use crate::report::LatencyUs;
use crate::workload::Steer;

use super::contender::{Contender, Host, Identity, Wire};
use super::options::CompareOptions;
use super::{CompareError, workload};

/// Load before each slice, so that connections and caches are warm.
const WARMUP: Duration = Duration::from_millis(200);
/// How long no reply may come.
const STALL_LIMIT: Duration = Duration::from_secs(5);

/// What the turns gave for one contender, a sample of each figure a turn.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Whose.
    pub identity: Identity,
    /// CPU time of all threads of its server, µs an operation.
    pub cpu_us_per_op: Samples,
    /// Operations a second.
    pub ops_per_s: Samples,
    /// Latencies of the turn, in µs.
    pub p50_us: Samples,
    /// See `p50_us`.
    pub p99_us: Samples,
    /// See `p50_us`.
    pub p99_9_us: Samples,
}

/// The order of so many contenders in a turn.
fn order(turn: usize, contenders: usize) -> Vec<usize> {
    let pair = turn / 2;
    let mut order: Vec<usize> = (0..contenders).map(|step| (pair + step) % contenders).collect();
    if !turn.is_multiple_of(2) {
        order.reverse();
    }
    order
}

/// Has all contenders take their turns at one pipeline.
///
/// # Errors
/// One of them failed.
pub fn rotate(
    options: &CompareOptions,
    value_size: usize,
    pipeline: usize,
    contenders: &[Contender],
) -> Result<Vec<Measured>, CompareError> {
    let mut measured: Vec<Measured> =
        contenders.iter().map(|contender| Measured::new(contender.identity())).collect();
    let task = Task::Timed { pipeline, warmup: WARMUP, duration: options.slice, rate: None };
    for turn in 0..options.reps {
        for index in order(turn, contenders.len()) {
            let Contender { host, wire } = &contenders[index];
            let outcome = slice(options, value_size, host, *wire, task)?;
            let faulty = |reason: &str| CompareError::Faulty {
                server: host.name().to_owned(),
                reason: reason.to_owned(),
            };
            if outcome.tally.misses > 0 {
                return Err(faulty("it has lost keys that it was filled with"));
            }
            if outcome.tally.ops == 0 {
                return Err(faulty("it answered nothing in a slice"));
            }
            if outcome.server_cpu_ns.is_none() {
                return Err(faulty("its CPU time cannot be read"));
            }
            measured[index].push(&outcome);
        }
        eprintln!(
            "values of {value_size} bytes, pipeline {pipeline}: turn {} of {}",
            turn + 1,
            options.reps
        );
    }
    Ok(measured)
}

/// Writes all keys to a server.
///
/// # Errors
/// It did not take them.
pub fn fill(
    options: &CompareOptions,
    value_size: usize,
    host: &Host,
    wire: Wire,
) -> Result<(), CompareError> {
    slice(options, value_size, host, wire, Task::Fill).map(drop)
}

fn slice(
    options: &CompareOptions,
    value_size: usize,
    host: &Host,
    wire: Wire,
    task: Task,
) -> Result<Outcome, CompareError> {
    let plan = Plan {
        address: host.address().clone(),
        token: Vec::new(),
        connections: options.connections,
        threads: 1,
        cpus: options.cpu.into_iter().collect(),
        steer: Steer::Any,
        workload: workload(options, value_size),
        stall_limit: STALL_LIMIT,
    };
    let outcome = wire
        .drive(&plan, host.threads(), task)
        .map_err(|error| CompareError::Drive { server: host.name().to_owned(), error })?;
    let tally = &outcome.tally;
    let reason = match (outcome.failures.first(), tally.complaints.first()) {
        (Some(failure), _) => failure.to_string(),
        (None, Some(complaint)) => complaint.clone(),
        (None, None) if tally.is_clean() => return Ok(outcome),
        (None, None) => format!("{} wrong values, {} lost", tally.wrong_values, tally.lost),
    };
    Err(CompareError::Faulty { server: host.name().to_owned(), reason })
}

impl Measured {
    pub(super) fn new(identity: Identity) -> Measured {
        Measured {
            identity,
            cpu_us_per_op: Samples::default(),
            ops_per_s: Samples::default(),
            p50_us: Samples::default(),
            p99_us: Samples::default(),
            p99_9_us: Samples::default(),
        }
    }

    fn push(&mut self, outcome: &Outcome) {
        let ops = outcome.tally.ops as f64;
        let cpu_us = outcome.server_cpu_ns.unwrap_or(0) as f64 / 1e3;
        let latency = LatencyUs::of(&outcome.tally.latency);
        self.cpu_us_per_op.push(cpu_us / ops);
        self.ops_per_s.push(ops / outcome.elapsed.as_secs_f64());
        self.p50_us.push(latency.p50);
        self.p99_us.push(latency.p99);
        self.p99_9_us.push(latency.p99_9);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_turn_has_everybody_once() {
        for contenders in 1..8 {
            for turn in 0..20 {
                let mut order = order(turn, contenders);
                order.sort_unstable();
                assert_eq!(order, (0..contenders).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_turn_and_the_next_are_each_other_backwards() {
        for contenders in 1..8 {
            for pair in 0..10 {
                let mut second = order(2 * pair + 1, contenders);
                second.reverse();
                assert_eq!(order(2 * pair, contenders), second);
            }
        }
        assert_eq!(order(0, 3), [0, 1, 2]);
        assert_eq!(order(1, 3), [2, 1, 0]);
        assert_eq!(order(2, 3), [1, 2, 0]);
    }

    #[test]
    fn everybody_begins_as_often() {
        for contenders in 1..8 {
            let mut first = vec![0; contenders];
            for turn in 0..2 * contenders {
                first[order(turn, contenders)[0]] += 1;
            }
            assert!(first.iter().all(|times| *times == 2), "{first:?}");
        }
    }
}
