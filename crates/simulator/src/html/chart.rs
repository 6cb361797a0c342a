//! One chart: lines over the load, or bars when there is one load only.

use std::fmt::Write as _;

/// How values become heights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// From 0.
    Linear,
    /// From 0 to 100.
    Percent,
    /// By orders of magnitude.
    Log,
}

/// A value with its spread, at a load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) min: f64,
    pub(super) mean: f64,
    pub(super) max: f64,
}

/// A policy.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: &'static str,
    pub(super) colour: &'static str,
    pub(super) is_ours: bool,
    pub(super) points: Vec<Point>,
}

/// A chart.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) series: Vec<Series>,
    pub(super) scale: Scale,
    pub(super) x_name: &'static str,
}

const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 38.0;

/// The values that an axis shows.
struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Chart {
    pub(super) fn svg(&self) -> String {
        if self.series.iter().all(|series| series.points.len() <= 1) {
            self.bars()
        } else {
            self.lines()
        }
    }

    fn lines(&self) -> String {
        let y = self.values();
        let xs: Vec<f64> = self.series.iter().flat_map(|s| s.points.iter().map(|p| p.x)).collect();
        let (x_low, x_high) = bounds(&xs);
        let at_x = |x: f64| {
            LEFT + (x - x_low) / (x_high - x_low).max(f64::MIN_POSITIVE) * (WIDTH - LEFT - RIGHT)
        };
        let mut svg = opened(HEIGHT);
        for &tick in &y.ticks {
            let at = self.height(&y, tick);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>",
                WIDTH - RIGHT
            );
            let _ = write!(
                svg,
                "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                label(tick)
            );
        }
        for x in distinct(&xs) {
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
                at_x(x),
                HEIGHT - BOTTOM + 16.0,
                label(x)
            );
        }
        let _ = write!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(LEFT, WIDTH - RIGHT),
            HEIGHT - 5.0,
            self.x_name
        );
        for series in &self.series {
            svg.push_str(&self.line(series, &y, &at_x));
        }
        svg + "</svg>"
    }

    fn line(&self, series: &Series, y: &Axis, at_x: &dyn Fn(f64) -> f64) -> String {
        let points = |of: fn(&Point) -> f64| -> Vec<String> {
            series
                .points
                .iter()
                .map(|p| format!("{:.1},{:.1}", at_x(p.x), self.height(y, of(p))))
                .collect()
        };
        let mut band = points(|p| p.max);
        band.extend(points(|p| p.min).into_iter().rev());
        let means = points(|p| p.mean);
        let (colour, width) = (series.colour, if series.is_ours { 3.2 } else { 1.7 });
        let mut svg =
            format!("<polygon points=\"{}\" fill=\"{colour}\" opacity=\".10\"/>", band.join(" "));
        let _ = write!(
            svg,
            "<polyline class=\"series\" points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"><title>{}</title></polyline>",
            means.join(" "),
            series.name
        );
        for point in &series.points {
            let _ = write!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{width}\" fill=\"{colour}\"><title>{}: {:.3} ({:.3} to {:.3})</title></circle>",
                at_x(point.x),
                self.height(y, point.mean),
                series.name,
                point.mean,
                point.min,
                point.max
            );
        }
        svg
    }

    /// One bar for each policy, best or worst as it comes, with a whisker.
    fn bars(&self) -> String {
        const ROW: f64 = 19.0;
        const NAMES: f64 = 104.0;
        let values = self.values();
        let height = ROW * self.series.len() as f64 + 8.0;
        let right = WIDTH - RIGHT - 48.0;
        let at = |value: f64| NAMES + self.share(&values, value) * (right - NAMES);
        let mut svg = opened(height);
        for (i, series) in self.series.iter().rev().enumerate() {
            let Some(point) = series.points.first() else { continue };
            let y = 4.0 + ROW * i as f64;
            let _ = write!(
                svg,
                "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                NAMES - 6.0,
                y + 13.0,
                series.name
            );
            let _ = write!(
                svg,
                "<rect x=\"{NAMES}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\" fill=\"{}\" opacity=\".85\"/>",
                y + 2.0,
                (at(point.mean) - NAMES).max(0.5),
                ROW - 5.0,
                series.colour
            );
            let _ = write!(
                svg,
                "<line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"currentColor\" stroke-width=\"1.4\"/>",
                at(point.min),
                at(point.max),
                y + ROW / 2.0 - 0.5,
                y + ROW / 2.0 - 0.5
            );
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                at(point.max) + 6.0,
                y + 13.0,
                label(point.mean)
            );
        }
        svg + "</svg>"
    }

    fn height(&self, axis: &Axis, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.share(axis, value) * (HEIGHT - TOP - BOTTOM)
    }

    /// Where a value lies between the axis' ends, from 0 to 1.
    fn share(&self, axis: &Axis, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Log => (value.max(axis.low) / axis.low).ln() / (axis.high / axis.low).ln(),
            Scale::Linear | Scale::Percent => (value - axis.low) / (axis.high - axis.low),
        };
        share.clamp(0.0, 1.0)
    }

    fn values(&self) -> Axis {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let most = points().map(|p| p.max).fold(0.0, f64::max);
        match self.scale {
            Scale::Percent => {
                Axis { low: 0.0, high: 100.0, ticks: vec![0.0, 25.0, 50.0, 75.0, 100.0] }
            }
            Scale::Linear => linear(most),
            Scale::Log => {
                let least =
                    points().map(|p| p.min).filter(|v| *v > 0.0).fold(f64::INFINITY, f64::min);
                log(least, most)
            }
        }
    }
}

/// From 0 in four steps of a round number.
fn linear(most: f64) -> Axis {
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|digit| digit * magnitude(most.max(1e-9) / 4.0));
    let step = step.into_iter().find(|step| step * 4.0 >= most).unwrap_or(most);
    Axis { low: 0.0, high: step * 4.0, ticks: (0..=4).map(|i| step * f64::from(i)).collect() }
}

/// Whole orders of magnitude around the values.
fn log(least: f64, most: f64) -> Axis {
    let low = magnitude(if least.is_finite() { least } else { 1.0 });
    let mut ticks = vec![low];
    let mut high = low;
    while high < most || ticks.len() < 2 {
        high *= 10.0;
        ticks.push(high);
    }
    Axis { low, high, ticks }
}

/// The power of ten at or below a positive value.
fn magnitude(value: f64) -> f64 {
    let mut power = 1e-9;
    while power * 10.0 <= value * (1.0 + 1e-9) {
        power *= 10.0;
    }
    power
}

fn bounds(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    (low, values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
}

fn distinct(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.dedup();
    values
}

/// A number with about three digits, and no zeros that say nothing.
fn label(value: f64) -> String {
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        3
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

fn opened(height: f64) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">")
}
