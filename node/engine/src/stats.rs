//! One core's numbers as text, for the stats request.

use std::fmt::Write;

use crate::counters::{CATALOGUE, Counters};

/// Lines of `name value`.
pub(crate) fn text(counters: &Counters) -> String {
    let mut text = String::with_capacity(CATALOGUE.len() * 32);
    for (info, value) in CATALOGUE.iter().zip(counters.values()) {
        writeln!(text, "{} {}", info.name, value).expect("writing to a string cannot fail");
    }
    text
}
