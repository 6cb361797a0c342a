//! The report as a table for a terminal.

use crate::experiment::{Cell, Load, Report};
use crate::summary::{Figures, Spread};
use std::fmt::Write as _;

const HEADER: [&str; 12] = [
    "policy",
    "SLO %",
    "(min–max)",
    "good/s/w",
    "TTFT mean",
    "p50",
    "p90",
    "p99 (min–max)",
    "ITL p50/p90/p99",
    "hit",
    "GB moved",
    "missed",
];

/// A table for each load, best SLO attainment first.
pub fn table(report: &Report) -> String {
    let mut text = head(report);
    let mut cells = report.cells.as_slice();
    while let Some(first) = cells.first() {
        let count = cells.iter().take_while(|cell| cell.load == first.load).count();
        let (of_load, rest) = cells.split_at(count);
        cells = rest;
        text.push_str(&section(first.load, of_load));
    }
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\nevent logs {:016x}", report.log_hash());
    text
}

fn head(report: &Report) -> String {
    let [prefill, decode] = report.workers;
    let cluster = match prefill {
        0 => format!("{decode} workers, aggregated"),
        _ => format!("{prefill} prefill + {decode} decode workers"),
    };
    let best = report.best_hit_ratio();
    let mut text = format!(
        "{}, {} requests · {cluster} · {} · {} blocks of {} tokens each\n\
         KV events {} ms old · the best possible hit ratio is {best:.3}",
        report.trace,
        report.requests,
        report.preset,
        report.kv_blocks,
        report.block_size,
        report.state_micros as f64 / 1e3,
    );
    if let Some(capacity) = report.capacity {
        // Writing to a string cannot fail.
        let _ = write!(text, " · full at {capacity:.3} × the trace's rate");
    }
    let beyond = report.extrapolated();
    if beyond > 0.0 {
        let _ = write!(
            text,
            "\nCaution: up to {:.1} % of steps lie beyond where the step times hold",
            beyond * 100.0
        );
    }
    text.push('\n');
    text
}

fn section(load: Load, cells: &[Cell]) -> String {
    let mut cells: Vec<&Cell> = cells.iter().collect();
    cells.sort_by(|a, b| slo(b).mean.total_cmp(&slo(a).mean));
    let mut rows = vec![HEADER.map(String::from)];
    rows.extend(cells.into_iter().map(row));
    let title = match load.share {
        Some(share) => format!("\nload {:.0} % (× {:.3})\n", share * 100.0, load.speedup),
        None => format!("\n× {:.3}\n", load.speedup),
    };
    title + &aligned(&rows)
}

fn slo(cell: &Cell) -> Spread {
    cell.spread(|run| run.slo)
}

fn row(cell: &Cell) -> [String; 12] {
    let mean = |figure: fn(&Figures) -> f64| cell.spread(figure).mean;
    let slo = slo(cell);
    let p99 = cell.spread(|run| run.ttft_ms.p99);
    [
        cell.policy.into(),
        format!("{:.1}", slo.mean * 100.0),
        format!("({:.1}–{:.1})", slo.min * 100.0, slo.max * 100.0),
        format!("{:.3}", mean(|run| run.goodput_per_worker)),
        time(mean(|run| run.ttft_mean_ms)),
        time(mean(|run| run.ttft_ms.p50)),
        time(mean(|run| run.ttft_ms.p90)),
        format!("{} ({}–{})", time(p99.mean), time(p99.min), time(p99.max)),
        format!(
            "{:.0}/{:.0}/{:.0} ms",
            mean(|run| run.itl_ms.p50),
            mean(|run| run.itl_ms.p90),
            mean(|run| run.itl_ms.p99)
        ),
        format!("{:.3}", mean(|run| run.hit_ratio)),
        format!("{:.0}", mean(|run| run.handed_off_bytes as f64) / 1e9),
        format!("{:.0}", mean(|run| (run.rejected + run.unfinished) as f64)),
    ]
}

/// Milliseconds, for people.
pub(crate) fn time(ms: f64) -> String {
    match ms {
        ms if ms < 1000.0 => format!("{ms:.0}ms"),
        ms if ms < 10_000.0 => format!("{:.2}s", ms / 1e3),
        ms => format!("{:.1}s", ms / 1e3),
    }
}

/// The first column to the left, the others to the right.
fn aligned(rows: &[[String; 12]]) -> String {
    let widths: [usize; 12] =
        std::array::from_fn(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for row in rows {
        for (i, (cell, width)) in row.iter().zip(widths).enumerate() {
            let padding = " ".repeat(width - cell.chars().count());
            match i {
                0 => text.extend(["  ", cell, &padding]),
                _ => text.extend(["  ", &padding, cell]),
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
