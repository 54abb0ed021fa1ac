//! What a machine does to whoever is only ready: on every CPU an endless loop looks at the clock, and
//! answers what is due at a rate as soon as it sees it. No server answers sooner than that on this
//! machine in this minute: what the loops wait for is other processes, interrupts and the hypervisor.

use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Longest wait that is told apart, in nanoseconds.
const NANOS_MAX: u64 = 100_000_000_000;

/// Waits in nanoseconds of what was due so often a second, on all CPUs together.
pub fn measure(per_second: f64, time: Duration) -> Histogram<u64> {
    let cpus = core_affinity::get_core_ids().unwrap_or_default();
    let spin = |cpu| {
        thread::spawn(move || {
            core_affinity::set_for_current(cpu);
            spin(per_second, time)
        })
    };
    let loops: Vec<_> = cpus.into_iter().map(spin).collect();
    let mut all = empty();
    for one in loops {
        all += one.join().expect("a loop does nothing that fails");
    }
    all
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, NANOS_MAX, 3).expect("sensible bounds")
}

fn spin(per_second: f64, time: Duration) -> Histogram<u64> {
    let mut waits = empty();
    let interval_ns = 1e9 / per_second;
    let (began, mut done) = (Instant::now(), 0u64);
    loop {
        let now = began.elapsed();
        let now_ns = now.as_nanos() as f64;
        // Everything due by now is answered now.
        let mut due_ns = done as f64 * interval_ns;
        while due_ns <= now_ns {
            waits.saturating_record(((now_ns - due_ns) as u64).max(1));
            done += 1;
            due_ns = done as f64 * interval_ns;
        }
        if now >= time {
            return waits;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_was_due_is_answered_once() {
        let cpus = core_affinity::get_core_ids().unwrap().len() as u64;
        let waits = measure(10_000.0, Duration::from_millis(100));
        // The first is due at once, and a loop ends a little late.
        let least = 1_001 * cpus;
        assert!(waits.len() >= least, "{} of {least}", waits.len());
        assert!(waits.value_at_percentile(50.0) <= waits.value_at_percentile(99.9));
    }
}
