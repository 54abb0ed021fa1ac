//! `replay`: how often the real shard misses over a trace, beside plain caches of the same
//! size.
//!
//! ```text
//! format, synthetic ─► trace ─┬─► reference: lru, fifo, random, lfu, s3_fifo, optimum ─┐
//!                             └─► shard: the real one, by policy ──────────────────────┴─► compare: a row
//!                                                       rows of several traces ─► summary ◄─┘
//! ```

pub mod compare;
pub mod format;
pub mod limit;
pub mod reference;
pub mod shard;
pub mod suite;
pub mod summary;
pub mod synthetic;
pub mod trace;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use corelane_shard::Policy;
use serde::Serialize;

use compare::{CompareError, Comparison, Plain, Row, compare};
use format::{Format, ReadError, read_file};
use limit::{Limit, Size};
use summary::{Summary, WORST_OBJECTS_MIN, summarize};
use synthetic::{Synthetic, SyntheticError};
use trace::{Trace, TraceError};

/// Sizes where none are asked for.
const SIZES: [Size; 3] = [Size::Percent(0.1), Size::Percent(1.0), Size::Percent(10.0)];
/// And for the suite.
const SUITE_SIZES: [Size; 2] = [Size::Percent(1.0), Size::Percent(10.0)];

/// Options of `replay`.
#[derive(Clone, Debug, Args)]
#[group(id = "workloads", required = true, multiple = true, args = ["trace", "suite"])]
pub struct ReplayOptions {
    /// Trace files, or drawn traces such as zipf:0.99:100K:5M, with :scan=20% (a share of the
    /// requests walks over all keys in order) or :once=20% (a share asks for keys that never
    /// come again).
    #[arg(long, value_name = "FILE|zipf:EXPONENT:KEYS:REQUESTS", value_delimiter = ',')]
    pub trace: Vec<String>,
    /// Replay the suite: five public traces, whose files are in this directory, and six
    /// drawn ones.
    #[arg(long, value_name = "DIRECTORY")]
    pub suite: Option<PathBuf>,
    /// Format of the trace files; by default what their names tell.
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Sizes of the caches: shares of a trace's objects (or of their bytes), or numbers
    /// [default: 0.1%,1%,10%; of the suite 1%,10%].
    #[arg(long, value_delimiter = ',')]
    pub sizes: Vec<Size>,
    /// What the caches are limited in. Bytes need a trace with sizes, and the shard's own
    /// overhead then counts.
    #[arg(long, value_enum, default_value = "entries")]
    pub limit: Limit,
    /// Policies of the shard.
    #[arg(long, value_delimiter = ',', default_value = "s3")]
    pub policy: Vec<Policy>,
    /// Plain caches to compare with [default: all].
    #[arg(long, value_enum, value_delimiter = ',')]
    pub references: Vec<Plain>,
    /// Where what is drawn by lot starts from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write the result as JSON to a file, or with - to standard output instead of the
    /// readable one.
    #[arg(long, value_name = "FILE|-", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<PathBuf>,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A trace cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A trace is not described well.
    #[error(transparent)]
    Description(#[from] SyntheticError),
    /// A trace cannot be drawn.
    #[error(transparent)]
    Draw(#[from] TraceError),
    /// A cache cannot be made.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// The result cannot be written.
    #[error("cannot write the result to {}: {error}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// The whole comparison. Its fields are the JSON's.
#[derive(Debug, Serialize)]
struct Replay {
    rows: Vec<Row>,
    summaries: Vec<Summary>,
    /// Files of the suite that are not there.
    absent: Vec<String>,
}

enum Source {
    File(PathBuf),
    Drawn(Synthetic),
}

impl Source {
    fn parse(text: &str) -> Result<Source, SyntheticError> {
        match text.starts_with("zipf:") {
            true => Ok(Source::Drawn(text.parse()?)),
            false => Ok(Source::File(PathBuf::from(text))),
        }
    }

    fn load(&self, options: &ReplayOptions) -> Result<Trace, ReplayError> {
        Ok(match self {
            Source::File(path) => read_file(path, options.format)?,
            Source::Drawn(synthetic) => synthetic.draw(options.seed)?,
        })
    }
}

/// Replays all traces, and prints what came of it.
///
/// # Errors
/// A trace cannot be had, or the result not be written.
pub fn run(options: &ReplayOptions) -> Result<ExitCode, ReplayError> {
    let mut sources: Vec<Source> =
        options.trace.iter().map(|text| Source::parse(text)).collect::<Result<_, _>>()?;
    let mut absent = Vec::new();
    if let Some(directory) = &options.suite {
        let (present, missing) = suite::files(directory);
        sources.extend(present.into_iter().map(Source::File));
        sources.extend(suite::drawn().into_iter().map(Source::Drawn));
        absent = missing.iter().map(|path| path.display().to_string()).collect();
    }
    for path in &absent {
        eprintln!("corelane-bench: {path} is absent, so the suite is not complete");
    }
    let comparison = Comparison {
        limit: options.limit,
        plain: match &options.references[..] {
            [] => Plain::value_variants().to_vec(),
            some => some.to_vec(),
        },
        policies: options.policy.clone(),
        seed: options.seed,
    };
    let sizes: &[Size] = match (&options.sizes[..], &options.suite) {
        ([], Some(_)) => &SUITE_SIZES,
        ([], None) => &SIZES,
        (sizes, _) => sizes,
    };
    let silent = options.json.as_deref() == Some(Path::new("-"));
    let mut rows: Vec<Row> = Vec::new();
    for source in &sources {
        compare(&source.load(options)?, sizes, &comparison, |row| {
            if !silent {
                let head = if rows.is_empty() { head_text(&row) } else { String::new() };
                print!("{head}{}", row_text(&row));
            }
            rows.push(row);
        })?;
    }
    let summaries = summarize(&rows);
    if !silent && rows.len() > sizes.len() {
        print!("{}", summaries_text(&summaries));
    }
    if let Some(path) = &options.json {
        let replay = Replay { rows, summaries, absent };
        let json = serde_json::to_string_pretty(&replay).expect("a comparison is JSON");
        if silent {
            println!("{json}");
        } else {
            fs::write(path, json + "\n")
                .map_err(|error| ReplayError::Json { path: path.clone(), error })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Columns of a cache's name or figure.
fn width(cache: &str) -> usize {
    cache.len().max(7)
}

fn head_text(row: &Row) -> String {
    let mut text = format!(
        "misses in percent of the requests; sizes in {}\n",
        match row.limit {
            Limit::Entries => "entries",
            Limit::Bytes => "bytes",
        }
    );
    write!(text, "{:<28}{:>9}{:>12}{:>12}", "workload", "objects", "size", "capacity").unwrap();
    for column in &row.columns {
        write!(text, "  {:>1$}", column.cache, width(&column.cache)).unwrap();
    }
    text + "\n"
}

fn row_text(row: &Row) -> String {
    let Row { workload, objects, size, capacity, .. } = row;
    let mut text = format!("{workload:<28}{objects:>9}{:>12}{capacity:>12}", size.to_string());
    for column in &row.columns {
        write!(text, "  {:>1$.2}", column.miss_percent, width(&column.cache)).unwrap();
    }
    text.push('\n');
    for note in &row.notes {
        writeln!(text, "    {note}").unwrap();
    }
    text
}

fn summaries_text(summaries: &[Summary]) -> String {
    let mut text = String::new();
    for Summary { size, workloads, caches } in summaries {
        writeln!(text, "\nmean of {workloads} workloads at {size}").unwrap();
        for cache in caches {
            write!(text, "  {:<16}{:>7.2}", cache.cache, cache.mean_miss_percent).unwrap();
            if let Some(points) = cache.points_to_lru {
                write!(text, "  {points:>+7.2} points to exact LRU").unwrap();
            }
            if let Some(worst) = &cache.worst_to_lru {
                let summary::Worst { workload, capacity, points } = worst;
                write!(text, ", at worst {points:+.2} ({workload}, {capacity})").unwrap();
            }
            text.push('\n');
        }
    }
    writeln!(text, "\nworst cases are of caches of {WORST_OBJECTS_MIN} objects or more").unwrap();
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: ReplayOptions,
    }

    fn parse(arguments: &[&str]) -> Result<ReplayOptions, clap::Error> {
        Line::try_parse_from([&["replay"], arguments].concat()).map(|line| line.options)
    }

    #[test]
    fn options_are_read() {
        let options = parse(&[
            "--trace",
            "a.u32,zipf:0.8:10:20",
            "--sizes",
            "0.1%,500",
            "--policy",
            "s3,clock",
            "--limit",
            "bytes",
            "--references",
            "lru,s3-fifo",
            "--json",
        ])
        .unwrap();
        assert_eq!(options.trace, ["a.u32", "zipf:0.8:10:20"]);
        assert_eq!(options.sizes, [Size::Percent(0.1), Size::Absolute(500)]);
        assert_eq!((options.policy.len(), options.limit), (2, Limit::Bytes));
        assert_eq!(options.references, [Plain::Lru, Plain::S3Fifo]);
        assert_eq!(options.json, Some(PathBuf::from("-")));
        assert!(parse(&[]).is_err());
        assert!(parse(&["--trace", "a", "--sizes", "200%"]).is_err());
        assert!(parse(&["--trace", "a", "--policy", "best"]).is_err());
    }

    #[test]
    fn sources_are_told_apart() {
        assert!(matches!(Source::parse("zipf:0.8:10:20"), Ok(Source::Drawn(_))));
        assert!(matches!(Source::parse("zipf.u32"), Ok(Source::File(_))));
        assert!(Source::parse("zipf:0.8").is_err());
    }

    #[test]
    fn the_text_has_every_figure() {
        let trace = "zipf:0.9:100:2000".parse::<Synthetic>().unwrap().draw(1).unwrap();
        let comparison = Comparison {
            limit: Limit::Entries,
            plain: vec![Plain::Lru],
            policies: vec![Policy::default()],
            seed: 1,
        };
        let mut rows = Vec::new();
        compare(&trace, &[Size::Percent(10.0)], &comparison, |row| rows.push(row)).unwrap();
        let head = head_text(&rows[0]);
        let line = row_text(&rows[0]);
        assert_eq!(head.lines().nth(1).unwrap().len(), line.lines().next().unwrap().len());
        assert!(head.contains("shard:s3") && line.contains("zipf:0.9:100:2000"));
        let summaries = summaries_text(&summarize(&rows));
        assert!(summaries.contains("mean of 1 workloads at 10%"), "{summaries}");
        assert!(summaries.contains("points to exact LRU"), "{summaries}");
    }
}
