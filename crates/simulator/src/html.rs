//! The report as one page that needs nothing else: charts in SVG, and all figures in tables.

mod chart;

use crate::experiment::{Cell, Load, Report};
use crate::summary::{Figures, Spread};
use crate::table::time;
use chart::{Chart, Point, Scale, Series};
use std::fmt::Write as _;

const STYLE: &str = "
:root{--ink:#1c2330;--soft:#5c6675;--line:#dde2e9;--paper:#fff;--card:#f7f8fa;--ours:#d6336c}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#9aa4b2;--line:#333b47;--paper:#14181f;--card:#1b212a;--ours:#ff6b9d}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1240px;padding:32px 24px 64px;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:36px 0 10px}p{margin:4px 0;color:var(--soft)}
.legend{display:flex;flex-wrap:wrap;gap:6px 18px;margin:18px 0 14px;font-size:14px}
.legend i{display:inline-block;width:18px;height:3px;border-radius:2px;margin-right:6px;vertical-align:middle}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(370px,1fr));gap:18px}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 14px 8px}
figcaption{font-weight:600}figcaption small{font-weight:400;color:var(--soft);display:block}
svg{width:100%;height:auto;display:block}svg text{font:12px system-ui,sans-serif;fill:var(--soft)}
svg .grid{stroke:var(--line);stroke-width:1}svg .series:hover{stroke-width:5}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:5px 7px;border-bottom:1px solid var(--line);white-space:nowrap}
th{color:var(--soft);font-weight:600}th:first-child,td:first-child{text-align:left}
tr.ours td{font-weight:600;color:var(--ours)}td small{color:var(--soft);font-weight:400}
.warn{border-left:3px solid #e8a33d;padding:2px 12px;margin:12px 0}
";

/// Colours of policies other than ours, which keep theirs through all charts.
const COLOURS: [&str; 13] = [
    "#4c6ef5", "#12b886", "#f59f00", "#7950f2", "#15aabf", "#fd7e14", "#82c91e", "#868e96",
    "#5f3dc4", "#228be6", "#a0522d", "#40c057", "#b197fc",
];

/// What the charts show.
struct Metric {
    title: &'static str,
    note: &'static str,
    scale: Scale,
    of: fn(&Figures) -> f64,
}

const METRICS: [Metric; 8] = [
    Metric {
        title: "Requests within SLO",
        note: "%, TTFT and ITL jointly",
        scale: Scale::Percent,
        of: |f| f.slo * 100.0,
    },
    Metric {
        title: "Goodput",
        note: "requests within SLO per second and worker",
        scale: Scale::Linear,
        of: |f| f.goodput_per_worker,
    },
    Metric {
        title: "TTFT, 99th percentile",
        note: "seconds, logarithmic",
        scale: Scale::Log,
        of: |f| f.ttft_ms.p99 / 1e3,
    },
    Metric {
        title: "TTFT, mean",
        note: "seconds, logarithmic",
        scale: Scale::Log,
        of: |f| f.ttft_mean_ms / 1e3,
    },
    Metric {
        title: "TTFT, median",
        note: "seconds, logarithmic",
        scale: Scale::Log,
        of: |f| f.ttft_ms.p50 / 1e3,
    },
    Metric {
        title: "ITL, 99th percentile",
        note: "milliseconds between tokens, logarithmic",
        scale: Scale::Log,
        of: |f| f.itl_ms.p99,
    },
    Metric {
        title: "Cache hits",
        note: "% of prompt tokens",
        scale: Scale::Linear,
        of: |f| f.hit_ratio * 100.0,
    },
    Metric {
        title: "KV handed off",
        note: "GB",
        scale: Scale::Linear,
        of: |f| f.handed_off_bytes as f64 / 1e9,
    },
];

/// The page.
pub fn html(report: &Report) -> String {
    let names = policies(report);
    let mut page = String::from("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>estafette simulate: ");
    let _ = write!(page, "{}</title><style>{STYLE}</style></head><body>", escaped(&report.trace));
    page.push_str(&head(report));
    page.push_str("<div class=\"legend\">");
    for name in &names {
        let _ = write!(
            page,
            "<span><i style=\"background:{}\"></i>{}</span>",
            colour(&names, name),
            escaped(name)
        );
    }
    page.push_str("</div><div class=\"charts\">");
    for metric in &METRICS {
        page.push_str(&figure(report, &names, metric));
    }
    page.push_str("</div>");
    for load in loads(report) {
        page.push_str(&section(report, load));
    }
    page.push_str("</body></html>\n");
    page
}

fn head(report: &Report) -> String {
    let [prefill, decode] = report.workers;
    let cluster = match prefill {
        0 => format!("{decode} workers that each do both"),
        _ => format!("{prefill} prefill and {decode} decode workers"),
    };
    let seeds = report.cells.first().map_or(0, |cell| cell.runs.len());
    let mut text = format!(
        "<h1>{}</h1><p>{} requests on {cluster} of {}, {} blocks of {} tokens each. Cache events and load records \
         reach the router after {} ms. {seeds} seeds; lines are means, bands reach from the least to the most.</p>\
         <p>The best possible hit ratio is {:.1} %.",
        escaped(&report.trace),
        report.requests,
        escaped(&report.preset),
        report.kv_blocks,
        report.block_size,
        report.state_micros as f64 / 1e3,
        report.best_hit_ratio() * 100.0,
    );
    if let Some(capacity) = report.capacity {
        let _ = write!(
            text,
            " The cluster is full at {capacity:.3} times the trace's rate, measured with the rule that each request goes \
             where the fewest prompt tokens are ahead."
        );
    }
    text.push_str("</p>");
    let beyond = report.extrapolated();
    if beyond > 0.0 {
        let _ = write!(
            text,
            "<p class=\"warn\">Up to {:.1} % of steps lie beyond where the step times hold.</p>",
            beyond * 100.0
        );
    }
    text
}

/// In the order of the report.
fn policies(report: &Report) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for cell in &report.cells {
        if !names.contains(&cell.policy) {
            names.push(cell.policy);
        }
    }
    names
}

fn loads(report: &Report) -> Vec<Load> {
    let mut loads: Vec<Load> = Vec::new();
    for cell in &report.cells {
        if !loads.contains(&cell.load) {
            loads.push(cell.load);
        }
    }
    loads
}

fn colour(names: &[&'static str], name: &str) -> &'static str {
    if name == "ours" {
        return "var(--ours)";
    }
    let others = names.iter().filter(|other| **other != "ours");
    COLOURS[others.take_while(|other| **other != name).count() % COLOURS.len()]
}

fn load_name(load: Load) -> String {
    load.share
        .map_or_else(|| format!("× {:.2}", load.speedup), |share| format!("{:.0} %", share * 100.0))
}

fn figure(report: &Report, names: &[&'static str], metric: &Metric) -> String {
    // Ours last, so that it lies on top.
    let mut order: Vec<&'static str> =
        names.iter().copied().filter(|name| *name != "ours").collect();
    order.extend(names.iter().copied().filter(|name| *name == "ours"));
    let series = order.into_iter().map(|name| {
        let cells = report.cells.iter().filter(|cell| cell.policy == name);
        let point = |cell: &Cell| {
            let Spread { min, mean, max } = cell.spread(metric.of);
            Point {
                x: cell.load.share.map_or(cell.load.speedup, |share| share * 100.0),
                min,
                mean,
                max,
            }
        };
        Series {
            name,
            colour: colour(names, name),
            is_ours: name == "ours",
            points: cells.map(point).collect(),
        }
    });
    let x_name =
        if report.capacity.is_some() { "load, % of capacity" } else { "× the trace's rate" };
    let chart = Chart { series: series.collect(), scale: metric.scale, x_name };
    format!(
        "<figure><figcaption>{}<small>{}</small></figcaption>{}</figure>",
        metric.title,
        metric.note,
        chart.svg()
    )
}

fn section(report: &Report, load: Load) -> String {
    let mut cells: Vec<&Cell> = report.cells.iter().filter(|cell| cell.load == load).collect();
    let slo = |cell: &Cell| cell.spread(|run| run.slo).mean;
    cells.sort_by(|a, b| slo(b).total_cmp(&slo(a)));
    let mut text =
        format!("<h2>Load {}</h2><div class=\"scroll\"><table><tr><th>policy", load_name(load));
    for column in [
        "within SLO",
        "goodput",
        "TTFT mean",
        "p50",
        "p90",
        "p99",
        "ITL p50",
        "p90",
        "p99",
        "hits",
        "over-expected",
        "GB",
        "handed off",
        "rejected",
        "unfinished",
    ] {
        let _ = write!(text, "<th>{column}");
    }
    for cell in cells {
        text.push_str(&row(cell));
    }
    text + "</table></div>"
}

fn row(cell: &Cell) -> String {
    let class = if cell.policy == "ours" { " class=\"ours\"" } else { "" };
    let mut text = format!("<tr{class}><td>{}", escaped(cell.policy));
    let mut add = |figure: fn(&Figures) -> f64, show: &dyn Fn(f64) -> String| {
        let Spread { min, mean, max } = cell.spread(figure);
        let _ = write!(text, "<td title=\"{} to {}\">{}", show(min), show(max), show(mean));
    };
    // Nothing, and not less than nothing, when it rounds to nothing.
    let percent = |value: f64| format!("{:.1} %", value * 100.0).replace("-0.0 %", "0.0 %");
    let whole = |value: f64| format!("{value:.0}");
    add(|f| f.slo, &percent);
    add(|f| f.goodput_per_worker, &|value| format!("{value:.3}"));
    add(|f| f.ttft_mean_ms, &time);
    add(|f| f.ttft_ms.p50, &time);
    add(|f| f.ttft_ms.p90, &time);
    add(|f| f.ttft_ms.p99, &time);
    add(|f| f.itl_ms.p50, &|ms| format!("{ms:.1} ms"));
    add(|f| f.itl_ms.p90, &|ms| format!("{ms:.1} ms"));
    add(|f| f.itl_ms.p99, &|ms| format!("{ms:.1} ms"));
    add(|f| f.hit_ratio, &percent);
    add(|f| f.hit_overestimate, &percent);
    add(|f| f.handed_off_bytes as f64 / 1e9, &whole);
    add(|f| f.handed_off as f64, &whole);
    add(|f| f.rejected as f64, &whole);
    add(|f| f.unfinished as f64, &whole);
    text
}

/// Text that is not to be read as HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests;
