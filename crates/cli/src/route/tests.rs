use super::*;

fn candidate(worker: &str, part: RoutePart, queue: f64) -> v1::RouteCandidate {
    let terms = v1::RouteTerms { queue, total: queue + 0.25, ..Default::default() };
    v1::RouteCandidate {
        worker: worker.into(),
        part: part.into(),
        uncached_tokens: 1500,
        terms: Some(terms),
        ..Default::default()
    }
}

#[test]
fn the_best_of_each_part_comes_first_and_who_cannot_says_why() {
    let full = v1::RouteCandidate {
        worker: "full".into(),
        part: RoutePart::Prefill.into(),
        filtered: "queue_full".into(),
        ..Default::default()
    };
    let lines = table(&[
        candidate("d", RoutePart::Decode, 0.0),
        full,
        candidate("slow", RoutePart::Prefill, 1.0),
        candidate("fast", RoutePart::Prefill, 0.5),
    ]);
    let first = |line: &String| line.split_whitespace().next().unwrap().to_owned();
    let names: Vec<_> = lines.iter().map(first).collect();
    assert_eq!(names, ["worker", "fast", "slow", "full", "d"]);
    assert!(lines[1].ends_with("750.0") && lines[3].ends_with("queue full"), "{lines:#?}");
}

#[test]
fn the_verdict_names_the_workers() {
    let explanation = |prefill: &str, decode: &str, reason: &str| v1::RouteExplanation {
        prompt_tokens: 7,
        prefill: prefill.into(),
        decode: decode.into(),
        reason: reason.into(),
        ..Default::default()
    };
    let text = verdict(&explanation("p-0", "d-0", "prefill_pool"));
    assert!(text.starts_with("7 tokens go to p-0, then d-0: "), "{text}");
    let text = verdict(&explanation("", "d-0", "deflected"));
    assert!(text.starts_with("7 tokens go to d-0 alone: "), "{text}");
}

#[test]
fn the_verdict_says_when_a_request_would_wait_or_be_refused() {
    let explanation = |decode: &str, reason: &str, fate: &str| v1::RouteExplanation {
        prompt_tokens: 7,
        decode: decode.into(),
        reason: reason.into(),
        fate: fate.into(),
        waiting: 3,
        ..Default::default()
    };
    let text = verdict(&explanation("", "saturated", "waits"));
    assert_eq!(text, "7 tokens wait in the router with 3 others: every worker's queue is full");
    let text = verdict(&explanation("d-0", "no_prefill_worker", "waits"));
    assert!(
        text.starts_with(
            "7 tokens wait in the router until 3 others are sent; now they would go to d-0 alone: "
        ),
        "{text}"
    );
    let text = verdict(&explanation("", "saturated", "refused"));
    assert_eq!(
        text,
        "7 tokens are refused: 3 requests wait in the router already, and no more may"
    );
    let text = verdict(&explanation("", "no_worker", "refused"));
    assert_eq!(text, "7 tokens are refused: no decode worker is ready");
}
