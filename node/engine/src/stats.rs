//! One core's numbers as text, for the stats request.

use std::fmt::Write;

use corelane_protocol::Space;

use crate::counters::{CATALOGUE, Counters};

/// Lines of `name value`: every counter, and how many entries each space has.
pub(crate) fn text(counters: &Counters, items_in: impl Fn(Space) -> u64) -> String {
    let mut text = String::with_capacity(CATALOGUE.len() * 32);
    for (info, value) in CATALOGUE.iter().zip(counters.values()) {
        writeln!(text, "{} {}", info.name, value).expect("writing to a string cannot fail");
    }
    for space in (0..Space::COUNT).filter_map(Space::new) {
        writeln!(text, "items_in_space_{} {}", space.number(), items_in(space))
            .expect("writing to a string cannot fail");
    }
    text
}
