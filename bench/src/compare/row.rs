//! What is reported of each contender at one pipeline and one size of values, with the
//! ratios between contenders: medians of the ratios within each turn.

use serde::Serialize;

use crate::measure::paired::{Samples, Spread};

use super::contender::{Identity, Wire};
use super::peer::Role;
use super::rotation::Measured;

/// Medians of the turns' latencies, in µs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Half were no longer.
    pub p50: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p99_9: f64,
}

/// One contender. Its fields are the JSON's.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Who it is.
    #[serde(flatten)]
    pub identity: Identity,
    /// Requests under way on each connection.
    pub pipeline: usize,
    /// Bytes of each value.
    pub value_size: usize,
    /// CPU time of all threads of the server, µs an operation.
    pub cpu_us_per_op: Spread,
    /// The same as a ratio to Corelane's, in the same protocol where Corelane speaks it and
    /// else in its own; the median of the turns' ratios, as are those that follow.
    pub ratio_to_corelane: Option<f64>,
    /// As a ratio to the peer with the lowest median, whatever it speaks.
    pub ratio_to_best_peer: Option<f64>,
    /// Which peer that is.
    pub best_peer: Option<String>,
    /// As a ratio to the floor's.
    pub ratio_to_floor: Option<f64>,
    /// Operations a second, the median of the turns.
    pub ops_per_s: f64,
    /// Latencies.
    pub latency_us: Latency,
}

/// The rows of one rotation.
pub(super) fn rows(pipeline: usize, value_size: usize, measured: &[Measured]) -> Vec<Row> {
    let best_peer = measured
        .iter()
        .filter(|other| other.identity.role == Role::Peer)
        .min_by(|a, b| f64::total_cmp(&cost(a), &cost(b)));
    let floor = measured.iter().find(|other| other.identity.role == Role::Floor);
    let row = |own: &Measured| {
        let ratio = |other: Option<&Measured>| {
            Some(own.cpu_us_per_op.ratio_to(&other?.cpu_us_per_op)?.median)
        };
        Some(Row {
            identity: own.identity.clone(),
            pipeline,
            value_size,
            cpu_us_per_op: own.cpu_us_per_op.spread()?,
            ratio_to_corelane: ratio(corelane(own.identity.protocol, measured)),
            ratio_to_best_peer: ratio(best_peer),
            best_peer: best_peer.map(|best| best.identity.server.clone()),
            ratio_to_floor: ratio(floor),
            ops_per_s: median(&own.ops_per_s)?,
            latency_us: Latency {
                p50: median(&own.p50_us)?,
                p99: median(&own.p99_us)?,
                p99_9: median(&own.p99_9_us)?,
            },
        })
    };
    measured.iter().filter_map(row).collect()
}

/// What a contender that speaks this is compared with.
fn corelane(wire: Wire, measured: &[Measured]) -> Option<&Measured> {
    let mut all = measured.iter().filter(|other| other.identity.role == Role::Corelane);
    let speaking = |wire: Wire| all.clone().find(|other| other.identity.protocol == wire);
    speaking(wire).or_else(|| speaking(Wire::Native)).or_else(|| all.next())
}

fn median(samples: &Samples) -> Option<f64> {
    Some(samples.spread()?.median)
}

fn cost(measured: &Measured) -> f64 {
    median(&measured.cpu_us_per_op).unwrap_or(f64::INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn measured(server: &str, role: Role, protocol: Wire, costs: &[f64]) -> Measured {
        let identity = Identity {
            server: server.to_owned(),
            role,
            version: "1.0".to_owned(),
            command: format!("/bin/{server}"),
            protocol,
        };
        let mut measured = Measured::new(identity);
        for cost in costs {
            measured.cpu_us_per_op.push(*cost);
            measured.ops_per_s.push(1e6 / cost);
            measured.p50_us.push(10.0 * cost);
            measured.p99_us.push(20.0 * cost);
            measured.p99_9_us.push(30.0 * cost);
        }
        measured
    }

    fn contenders() -> Vec<Measured> {
        vec![
            measured("corelane", Role::Corelane, Wire::Native, &[1.0, 3.0, 2.0]),
            measured("corelane", Role::Corelane, Wire::Resp, &[2.0, 4.0, 4.0]),
            measured("old", Role::Variant, Wire::Native, &[0.5, 0.5, 0.5]),
            measured("slow", Role::Peer, Wire::Resp, &[8.0, 8.0, 12.0]),
            measured("fast", Role::Peer, Wire::Memcached, &[4.0, 6.0, 4.0]),
            measured("floor", Role::Floor, Wire::Fixed, &[1.0, 1.0, 1.0]),
        ]
    }

    #[test]
    fn ratios_are_medians_of_each_turns() {
        let rows = rows(16, 64, &contenders());
        let check = |index: usize, corelane: f64, best_peer: f64, floor: f64| {
            let row = &rows[index];
            assert_eq!(row.ratio_to_corelane, Some(corelane), "{index}");
            assert_eq!(row.ratio_to_best_peer, Some(best_peer), "{index}");
            assert_eq!(row.ratio_to_floor, Some(floor), "{index}");
            assert_eq!(row.best_peer.as_deref(), Some("fast"));
        };
        check(0, 1.0, 0.5, 2.0);
        check(1, 1.0, 2.0 / 3.0, 4.0);
        check(2, 0.25, 0.125, 0.5);
        // With Corelane's RESP, since it speaks it: 4, 2, 3.
        check(3, 3.0, 2.0, 8.0);
        // With its own protocol, since it speaks no other of theirs: 4, 2, 2.
        check(4, 2.0, 1.0, 4.0);
        check(5, 0.5, 0.25, 1.0);
    }

    #[test]
    fn what_is_absent_is_no_ratio() {
        let alone = [measured("corelane", Role::Corelane, Wire::Native, &[2.0])];
        let rows = rows(1, 64, &alone);
        let row = &rows[0];
        assert_eq!(row.ratio_to_corelane, Some(1.0));
        assert_eq!((row.ratio_to_best_peer, row.ratio_to_floor), (None, None));
        let peer = [measured("peer", Role::Peer, Wire::Resp, &[2.0])];
        assert_eq!(super::rows(1, 64, &peer)[0].ratio_to_corelane, None);
        let unmeasured = [measured("peer", Role::Peer, Wire::Resp, &[])];
        assert!(super::rows(1, 64, &unmeasured).is_empty());
    }

    #[test]
    fn json_has_the_promised_fields() {
        let rows = rows(16, 1_024, &contenders());
        let json: Value = serde_json::to_value(&rows).unwrap();
        let row = &json[4];
        assert_eq!(row["server"], "fast");
        assert_eq!(row["role"], "peer");
        assert_eq!(row["version"], "1.0");
        assert_eq!(row["command"], "/bin/fast");
        assert_eq!(row["protocol"], "memcached");
        assert_eq!((&row["pipeline"], &row["value_size"]), (&16.into(), &1_024.into()));
        let cost = serde_json::json!({"median": 4.0, "min": 4.0, "max": 6.0});
        assert_eq!(row["cpu_us_per_op"], cost);
        assert_eq!(row["ratio_to_corelane"], 2.0);
        assert_eq!(row["ratio_to_best_peer"], 1.0);
        assert_eq!(row["ratio_to_floor"], 4.0);
        assert_eq!(row["ops_per_s"], 250_000.0);
        let latency = serde_json::json!({"p50": 40.0, "p99": 80.0, "p99_9": 120.0});
        assert_eq!(row["latency_us"], latency);
    }
}
