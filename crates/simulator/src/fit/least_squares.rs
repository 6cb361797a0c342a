//! Least squares without negative terms, by coordinate descent on the normal equations: convex, so it ends at the optimum.

/// `row · terms = value`; an error counts as a share of `scale`.
pub(super) struct Equation {
    pub(super) row: Vec<f64>,
    pub(super) value: f64,
    pub(super) scale: f64,
}

impl Equation {
    /// An equation whose error counts relative to its value.
    pub(super) fn new(row: impl Into<Vec<f64>>, value: f64) -> Self {
        Self { row: row.into(), value, scale: value }
    }
}

/// What was found.
pub(super) struct Solution {
    pub(super) terms: Vec<f64>,
    /// The largest error, as a share of its equation's scale.
    pub(super) worst: f64,
}

/// A sweep that changes the prediction by less than this share changes nothing.
const CHANGE_MIN: f64 = 1e-12;
/// More sweeps than a handful of terms that resemble each other need.
const SWEEPS_MAX: usize = 200_000;

pub(super) fn solve(equations: impl Iterator<Item = Equation>) -> Solution {
    let scaled: Vec<(Vec<f64>, f64)> = equations
        .map(|e| (e.row.iter().map(|x| x / e.scale).collect(), e.value / e.scale))
        .collect();
    let count = scaled.first().map_or(0, |(row, _)| row.len());
    let sum = |of: &dyn Fn(&[f64], f64) -> f64| scaled.iter().map(|(r, v)| of(r, *v)).sum::<f64>();
    let products: Vec<Vec<f64>> =
        (0..count).map(|i| (0..count).map(|j| sum(&|row, _| row[i] * row[j])).collect()).collect();
    let values: Vec<f64> = (0..count).map(|i| sum(&|row, value| row[i] * value)).collect();
    let terms = descend(&products, &values);
    let dot = |row: &[f64]| row.iter().zip(&terms).map(|(x, t)| x * t).sum::<f64>();
    let worst = scaled.iter().map(|(row, value)| (dot(row) - value).abs()).fold(0.0, f64::max);
    Solution { terms, worst }
}

fn descend(products: &[Vec<f64>], values: &[f64]) -> Vec<f64> {
    let mut terms = vec![0.0; values.len()];
    for _ in 0..SWEEPS_MAX {
        let mut change: f64 = 0.0;
        for i in 0..terms.len() {
            let own = products[i][i];
            if own <= 0.0 {
                continue;
            }
            let all: f64 = products[i].iter().zip(&terms).map(|(p, t)| p * t).sum();
            let better = ((values[i] - all) / own + terms[i]).max(0.0);
            // In units of the prediction, so that terms of all sizes count alike.
            change = change.max((better - terms[i]).abs() * own.sqrt());
            terms[i] = better;
        }
        if change < CHANGE_MIN {
            break;
        }
    }
    terms
}
