//! Logits, greedy tokens and perplexity.

use crate::data::{self, Greedy, LogitRow, Logits, Perplexity, Tokenization};
use crate::runner::Runner;
use estafette_model::Backend;

/// No prompt may be further off in f32, whatever its noise.
const REFERENCE_ERROR_MAX: f64 = 5e-4;
/// How far the `cpu` backend may move the distance between the two best logits: activations are int16, keys and values
/// f16. Measured: 0.013 over 587 steps.
const CPU_MARGIN_ERROR: f32 = 0.05;
/// Of the `cpu` backend's logits, root of the mean square. Measured: 0.004.
const CPU_RMS_ERROR: f64 = 0.01;
/// Relative. Measured: 0.00002.
const PERPLEXITY_ERROR: f64 = 0.005;

/// Distances of `logits` from everything that is known of their row.
fn distances<'a>(
    row: &'a LogitRow,
    sample: &'a [usize],
    logits: &'a [f32],
) -> impl Iterator<Item = f64> + 'a {
    let top = row.top_ids.iter().zip(&row.top_logits);
    let sample = sample.iter().zip(&row.sample_logits);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit)).sum();
    let mean = sum / logits.len() as f64 - row.mean;
    top.chain(sample)
        .map(|(&id, &logit)| f64::from(logits[id] - logit))
        .chain([logsumexp(logits) - row.logsumexp, mean])
}

fn logsumexp(logits: &[f32]) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - max).exp()).sum();
    max + sum.ln()
}

/// The largest distance from the stored logits of each prompt, and the root of the mean square over all of them.
fn against_logits<B: Backend>(runner: &mut Runner<B>, known: &Logits) -> (Vec<f64>, f64) {
    let (mut largest, mut squares, mut count) = (Vec::new(), 0.0, 0u32);
    for prompt in &known.prompts {
        let row_at = |position| prompt.rows.iter().find(|row| row.position == position);
        let mut worst = 0.0f64;
        let mut seen = 0;
        runner.run(
            &prompt.ids,
            |p| row_at(p).is_some(),
            |position, logits| {
                for distance in distances(row_at(position).unwrap(), &known.sample_ids, logits) {
                    worst = worst.max(distance.abs());
                    squares += distance * distance;
                    count += 1;
                }
                seen += 1;
            },
        );
        assert_eq!(seen, prompt.rows.len(), "{}", prompt.name);
        largest.push(worst);
    }
    (largest, (squares / f64::from(count)).sqrt())
}

#[test]
fn the_reference_backend_is_as_close_as_rounding_allows() {
    let known: Logits = data::read("logits");
    let (largest, _) = against_logits(&mut Runner::reference(), &known);
    for (prompt, worst) in known.prompts.iter().zip(largest) {
        let allowed = (5.0 * prompt.noise.f64.max).min(REFERENCE_ERROR_MAX);
        println!("{}: {worst:.1e} of {allowed:.1e}", prompt.name);
        assert!(worst <= allowed, "{}: {worst:e} is more than {allowed:e}", prompt.name);
    }
}

#[test]
fn the_cpu_backend_is_close() {
    let (largest, rms) = against_logits(&mut Runner::cpu(), &data::read("logits"));
    println!("largest {largest:.3?}, rms {rms:.4}");
    assert!(rms <= CPU_RMS_ERROR, "{rms}");
}

#[test]
fn the_cpu_backend_chooses_every_clear_token() {
    let mut runner = Runner::cpu();
    let Greedy { prompts } = data::read("greedy");
    let (mut clear, mut total, mut worst, mut flips) = (0, 0, 0.0f32, Vec::new());
    for prompt in &prompts {
        let first = prompt.ids.len() - 1;
        let ids = [&prompt.ids[..], &prompt.continuation[..]].concat();
        let wanted = first..ids.len() - 1;
        runner.run(
            &ids,
            |p| wanted.contains(&p),
            |position, logits| {
                let step = position - first;
                let (winner, second) = (prompt.continuation[step], prompt.second[step]);
                let margin = logits[winner as usize] - logits[second as usize];
                let known = prompt.margins[step];
                worst = worst.max((margin - known).abs());
                total += 1;
                clear += usize::from(known > CPU_MARGIN_ERROR);
                let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                if best > logits[winner as usize] {
                    flips.push((known, prompt.name.as_str(), step));
                }
            },
        );
    }
    println!(
        "{clear} of {total} steps are clear, margins move by up to {worst:.3}, flips {flips:.2?}"
    );
    assert!(clear * 10 > total * 9, "{clear} of {total} steps say something");
    assert!(flips.iter().all(|flip| flip.0 <= CPU_MARGIN_ERROR), "{flips:?}");
    assert!(worst <= CPU_MARGIN_ERROR, "margins move by {worst}");
}

#[test]
fn the_cpu_backend_has_the_same_perplexity() {
    let known: Perplexity = data::read("perplexity");
    let Tokenization { texts } = data::read("tokenization");
    let corpus = texts.iter().find(|case| case.name == "corpus").unwrap();
    assert_eq!((corpus.text.as_str(), corpus.ids.len()), (data::corpus().as_str(), known.tokens));
    let mut runner = Runner::cpu();
    let (mut nll, mut scored) = (0.0, 0);
    for window in corpus.ids.chunks(known.window) {
        runner.run(
            window,
            |p| p + 1 < window.len(),
            |position, logits| {
                nll += logsumexp(logits) - f64::from(logits[window[position + 1] as usize]);
                scored += 1;
            },
        );
    }
    assert_eq!(scored, known.scored);
    let perplexity = (nll / scored as f64).exp();
    let error = perplexity / known.perplexity - 1.0;
    println!(
        "perplexity {perplexity:.4}, reference {:.4}, {:+.3} %",
        known.perplexity,
        100.0 * error
    );
    assert!(error.abs() <= PERPLEXITY_ERROR, "{perplexity} against {}", known.perplexity);
}
