//! How large caches are.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use corelane::config::values::parse_size;
use serde::Serialize;

/// What a cache is limited in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// Its objects, whatever their size.
    Entries,
    /// The bytes of its objects; for the shard all that it holds, so its own overhead counts.
    Bytes,
}

/// The size of a cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Size {
    /// So many percent of the trace's objects, or of their bytes.
    Percent(f64),
    /// So many objects, or bytes.
    Absolute(u64),
}

impl Size {
    /// The size in objects or bytes where all of the trace takes `footprint`: rounded down,
    /// and at least one.
    pub fn of(self, footprint: u64) -> u64 {
        let size = match self {
            Size::Percent(percent) => (footprint as f64 * percent / 100.0) as u64,
            Size::Absolute(size) => size,
        };
        size.max(1)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Percent(percent) => write!(formatter, "{percent}%"),
            Size::Absolute(size) => write!(formatter, "{size}"),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A size that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a size is a share such as 0.1% (over 0 and up to 100), or a number such as 5000 or 64MiB")]
pub struct SizeError;

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Size, SizeError> {
        if let Some(number) = text.strip_suffix('%') {
            let percent = number.parse().map_err(|_| SizeError)?;
            let is_share = percent > 0.0 && percent <= 100.0;
            return is_share.then_some(Size::Percent(percent)).ok_or(SizeError);
        }
        let size = parse_size(text).ok().filter(|size| *size > 0);
        size.map(Size::Absolute).ok_or(SizeError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        let check = |text: &str, footprint: u64, expected: u64| {
            let size: Size = text.parse().unwrap();
            assert_eq!(size.of(footprint), expected);
            assert_eq!(size.to_string().parse(), Ok(size));
        };
        check("1%", 95_607, 956);
        check("0.1%", 5_000, 5);
        check("0.1%", 10, 1);
        check("100%", 10, 10);
        check("500", 10, 500);
        check("64KiB", 1, 65_536);
        for wrong in ["", "%", "0%", "101%", "nan%", "-1%", "0", "many"] {
            assert_eq!(wrong.parse::<Size>(), Err(SizeError), "{wrong}");
        }
    }
}
