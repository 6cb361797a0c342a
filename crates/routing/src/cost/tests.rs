use super::*;
use crate::sketch::Candidate;
use crate::standing::Facts;
use crate::{Pending, StepCost};
use estafette_types::LoadRecord;
use proptest::prelude::*;

fn candidate() -> impl Strategy<Value = Candidate> {
    let load = (0..200u64, 0..99_999u64, 0..50u64, 0..9_999u64, 0..300u64, 0..999_999u64);
    let pending = (0..50u64, 0..99_999u64, 0..99_999u64);
    let step = (0.0..0.1f64, 0.0..1e-3f64, 0.0..1e-3f64, 0.0..1e-6f64, 0.0..1e-6f64);
    (load, 0..9_000u64, pending, step, 0..200u32).prop_map(
        |(load, free_blocks, pending, step, cached_blocks)| Candidate {
            slot: 0,
            cached_blocks,
            affinity: 0,
            facts: Facts {
                load: LoadRecord {
                    waiting_sequences: load.0,
                    waiting_prefill_tokens: load.1,
                    prefilling_sequences: load.2,
                    running_prefill_tokens: load.3,
                    decoding_sequences: load.4,
                    decoding_tokens: load.5,
                    free_blocks,
                    total_blocks: 9_000,
                    ..LoadRecord::default()
                },
                draining: false,
                max_num_seqs: 64,
                max_waiting: 999,
                steps_per_token: 1.0 / 512.0,
                pending: Pending {
                    sequences: pending.0,
                    prefill_tokens: pending.1,
                    context_tokens: pending.2,
                },
                step: StepCost {
                    base: step.0,
                    per_prefill_token: step.1,
                    per_sequence: step.2,
                    per_context_token: step.3,
                    per_attended_token: step.4,
                },
                mean_attended: 100.0,
            },
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    (1..8_000u32, prop_oneof![Just(16), Just(64)], 1..2_000u32).prop_map(
        |(prompt_tokens, block_size, max_tokens)| Request {
            prompt_tokens,
            block_size,
            max_tokens,
            session: None,
        },
    )
}

fn terms(request: &Request, candidate: &Candidate) -> [Terms; 3] {
    let config = RoutingConfig::default();
    let scorer = Scorer::new(request, &config);
    let pressure = scorer.pressure(0.2);
    let standing = candidate.standing();
    let candidate = candidate.seen(&standing);
    [
        scorer.prefill(&candidate).under(pressure),
        scorer.decode(&candidate),
        scorer.aggregated(&candidate).under(pressure),
    ]
}

fn assert_not_cheaper(request: &Request, busier: &Candidate, idler: &Candidate) {
    for (more, less) in terms(request, busier).iter().zip(terms(request, idler)) {
        let (more, less) = (more.total(), less.total());
        assert!(more >= less - 1e-9 * less, "{more} < {less}");
    }
}

proptest! {
    #[test]
    fn every_term_is_a_time(request in request(), candidate in candidate()) {
        for terms in terms(&request, &candidate) {
            let Terms { queue, seat, prefill, hand_off, decode, interference, others } = terms;
            for term in [queue, seat, prefill, hand_off, decode, interference, others] {
                prop_assert!(term.is_finite() && term >= -1e-9, "{:?}", terms);
            }
        }
    }

    #[test]
    fn more_load_is_never_cheaper(request in request(), idler in candidate(), which in 0..6) {
        let mut busier = idler;
        match which {
            0 => busier.load.waiting_prefill_tokens += 1_000,
            1 => busier.load.decoding_sequences += 5,
            2 => busier.load.decoding_tokens += 5_000,
            3 => busier.pending.prefill_tokens += 1_000,
            4 => busier.pending.sequences += 3,
            _ => busier.load.free_blocks /= 2,
        }
        assert_not_cheaper(&request, &busier, &idler);
    }

    #[test]
    fn a_longer_cached_prefix_is_never_dearer(request in request(), candidate in candidate()) {
        let cold = Candidate { cached_blocks: candidate.cached_blocks / 2, ..candidate };
        assert_not_cheaper(&request, &cold, &candidate);
    }
}
