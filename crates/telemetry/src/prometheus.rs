//! Metrics in the Prometheus text format.

use crate::catalogue::{self, Kind, Metric};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use std::fmt::Write;
use std::time::Duration;
use thiserror::Error;

/// Upper bounds of every histogram: all of them are times.
const SECONDS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// How often histograms are folded, so that memory stays bounded when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Metrics cannot be recorded.
#[derive(Debug, Error)]
#[error("cannot record metrics: {0}")]
pub struct ExporterError(#[from] BuildError);

/// Collects what the process records through the `metrics` crate.
#[derive(Clone, Debug)]
pub struct Exporter(PrometheusHandle);

impl Exporter {
    /// Starts recording. In a process that records already, the new exporter stays empty: tests run several routers in
    /// one process.
    ///
    /// # Errors
    /// When the buckets are refused.
    pub fn install() -> Result<Self, ExporterError> {
        let recorder = PrometheusBuilder::new().set_buckets(&SECONDS)?.build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_ok() {
            catalogue::ALL.iter().for_each(describe);
        }
        Ok(Self(handle))
    }

    /// Everything recorded so far.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Folds histograms; call it every [`Exporter::upkeep_interval`].
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }

    /// The interval for [`Exporter::upkeep`].
    pub fn upkeep_interval(&self) -> Duration {
        UPKEEP
    }
}

fn describe(metric: &Metric) {
    match metric.kind {
        Kind::Counter => metrics::describe_counter!(metric.name, metric.unit, metric.help),
        Kind::Gauge => metrics::describe_gauge!(metric.name, metric.unit, metric.help),
        Kind::Histogram => metrics::describe_histogram!(metric.name, metric.unit, metric.help),
    }
}

/// Writes metrics whose values are read at the moment of a scrape: nothing stale stays behind when their subject goes.
#[derive(Debug, Default)]
pub struct TextWriter(String);

impl TextWriter {
    /// Writes one metric with a value for each set of labels.
    pub fn metric<'a>(
        &mut self,
        metric: &Metric,
        values: impl IntoIterator<Item = (Vec<(&'a str, String)>, f64)>,
    ) {
        let Metric { name, kind, help, .. } = metric;
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
        for (labels, value) in values {
            let labels: Vec<_> =
                labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escape(value))).collect();
            let _ = writeln!(self.0, "{name}{{{}}} {value}", labels.join(","));
        }
    }

    /// What was written.
    pub fn finish(self) -> String {
        self.0
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests;
