//! The command line of `sweep`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::{Serialize, Serializer};

use crate::cli::{RunOptions, count, parse_duration, parse_rate, serialize_seconds};
use crate::generator::pacer::Rate;
use crate::generator::session::PIPELINE_MAX;
use crate::options::{SubjectOptions, WorkloadOptions};
use crate::workload::Steer;

/// Options of `sweep`.
#[derive(Clone, Debug, Args, Serialize)]
pub struct SweepOptions {
    /// What is loaded, and by whom.
    #[command(flatten)]
    #[serde(flatten)]
    pub subject: SubjectOptions,
    /// Most requests under way on each connection; those that are due and find no room wait,
    /// and their time runs.
    #[arg(long, default_value_t = 256, value_parser = count(1..=PIPELINE_MAX))]
    #[arg(help_heading = "Load")]
    pub pipeline: usize,
    /// What is asked for.
    #[command(flatten)]
    #[serde(flatten)]
    pub workload: WorkloadOptions,

    /// What the 99th percentile of latency may be.
    #[arg(long, value_name = "TIME", default_value = "1ms", value_parser = parse_duration)]
    #[arg(help_heading = "Measuring")]
    #[serde(serialize_with = "serialize_seconds")]
    pub p99_max: Duration,
    /// The lowest rate, in requests a second of all connections together.
    #[arg(long, value_name = "PER_SECOND", default_value = "1000")]
    #[arg(value_parser = parse_pace, help_heading = "Measuring")]
    #[serde(serialize_with = "serialize_rate")]
    pub rate_min: Rate,
    /// The highest.
    #[arg(long, value_name = "PER_SECOND", default_value = "10000000")]
    #[arg(value_parser = parse_pace, help_heading = "Measuring")]
    #[serde(serialize_with = "serialize_rate")]
    pub rate_max: Rate,
    /// How often each rate is measured; medians count.
    #[arg(long, default_value_t = 3, value_parser = count(1..=1_000), help_heading = "Measuring")]
    pub reps: usize,
    /// Time measured each time.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    #[arg(help_heading = "Measuring")]
    #[serde(serialize_with = "serialize_seconds")]
    pub slice: Duration,
    /// Time under load before it.
    #[arg(long, value_name = "TIME", default_value = "300ms", value_parser = parse_duration)]
    #[arg(help_heading = "Measuring")]
    #[serde(serialize_with = "serialize_seconds")]
    pub warmup: Duration,
    /// Draw latency against throughput into a file.
    #[arg(long, value_name = "FILE", help_heading = "Measuring")]
    pub svg: Option<PathBuf>,
    /// Write the result as JSON to a file, or with - to standard output instead of the
    /// readable one.
    #[arg(long, value_name = "FILE|-", num_args = 0..=1, default_missing_value = "-")]
    #[arg(help_heading = "Measuring")]
    pub json: Option<PathBuf>,
}

impl SweepOptions {
    /// What the 99th percentile may be, in µs.
    pub(super) fn limit_us(&self) -> f64 {
        self.p99_max.as_secs_f64() * 1e6
    }

    /// The run that has the same server and workload.
    pub(super) fn as_run(&self) -> RunOptions {
        /// No reply for so long is no latency any more.
        const STALL_LIMIT: Duration = Duration::from_secs(5);
        RunOptions {
            subject: self.subject.clone(),
            pipeline: self.pipeline,
            rate: Some(self.rate_min.per_second()),
            steer: Steer::Owner,
            workload: self.workload.clone(),
            duration: self.slice,
            warmup: self.warmup,
            stall_limit: STALL_LIMIT,
            json: self.json.clone(),
        }
    }
}

fn parse_pace(text: &str) -> Result<Rate, String> {
    let rate = parse_rate(text)?;
    Rate::new(rate).ok_or_else(|| "requests a second".to_owned())
}

fn serialize_rate<S: Serializer>(rate: &Rate, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(rate.per_second())
}
