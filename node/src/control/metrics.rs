//! Metrics as OpenMetrics text: each core's numbers under the names of the engine's
//! catalogue, then what concerns the process.

use std::fmt;
use std::sync::Arc;

use corelane_engine::counters::{CATALOGUE, CounterKind};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::{Phase, Shared, process};

/// The media type of OpenMetrics 1.0.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Renders all metrics as of now.
pub(super) fn render(shared: &Arc<Shared>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Metrics { shared: Arc::clone(shared) }));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

struct Metrics {
    shared: Arc<Shared>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Metrics")
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.encode_cores(&mut encoder)?;
        self.encode_process(&mut encoder)
    }
}

impl Metrics {
    fn encode_cores(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(node) = self.shared.node.get() else { return Ok(()) };
        let cores: Vec<_> = node.snapshots().cores().iter().map(|core| core.read()).collect();
        for (index, info) in CATALOGUE.iter().enumerate() {
            let kind = match info.kind {
                CounterKind::Counter => MetricType::Counter,
                CounterKind::Gauge => MetricType::Gauge,
            };
            let name = format!("corelane_{}", info.name);
            let mut family = encoder.encode_descriptor(&name, info.help, None, kind)?;
            for (core, values) in cores.iter().enumerate() {
                let labels = [("core", core)];
                let metric = family.encode_family(&labels)?;
                match info.kind {
                    CounterKind::Counter => ConstCounter::new(values[index]).encode(metric)?,
                    CounterKind::Gauge => gauge(values[index]).encode(metric)?,
                }
            }
        }
        Ok(())
    }

    fn encode_process(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let about = &self.shared.about;
        let labels =
            [("version", about.version), ("node", about.node_name.as_str()), ("io", about.io)];
        let help = "What this node is; always 1.";
        let mut family =
            encoder.encode_descriptor("corelane_info", help, None, MetricType::Gauge)?;
        gauge(1).encode(family.encode_family(&labels)?)?;

        let mut plain = |name: &str, help: &str, value: u64| {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            gauge(value).encode(metric)
        };
        let ready = u64::from(self.shared.phase() == Phase::Ready);
        plain("corelane_ready", "1 while the node serves, else 0.", ready)?;
        let uptime = self.shared.started.elapsed().as_secs();
        plain("corelane_uptime_seconds", "Time since the process started.", uptime)?;
        let memory = self.shared.node.get().map_or(about.memory, |node| node.config().memory);
        plain("corelane_memory_bytes", "Memory that the process may use.", memory)?;
        // The next two have the names that Prometheus's own client libraries give them.
        if let Some(bytes) = process::resident_bytes() {
            plain("process_resident_memory_bytes", "Resident memory of the process.", bytes)?;
        }
        if let Some(files) = process::open_files() {
            plain("process_open_fds", "Open file descriptors of the process.", files)?;
        }
        Ok(())
    }
}

/// A gauge of a count or a size, none of which comes near 2^63.
fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}
