use super::*;
use crate::{NoChoice, Request, WorkerTraits};
use estafette_types::{LoadRecord, SplitMix64};
use proptest::prelude::*;

/// Role, blocks, sequences that wait, whether it drains, whether it has refused, legs on their way.
type Shape = (bool, u64, u64, bool, bool, usize);

fn fleet(shapes: &[Shape]) -> Fleet {
    let mut fleet = Fleet::default();
    for (slot, &(prefill, total_blocks, waiting_sequences, draining, refused, legs)) in
        (0..).zip(shapes)
    {
        let traits = WorkerTraits {
            role: if prefill { Role::Prefill } else { Role::Decode },
            max_num_seqs: 4,
            max_waiting: 3,
            max_num_batched_tokens: 512,
            takes_kv: true,
            name_hash: 0,
        };
        fleet.join(slot, traits);
        let load = LoadRecord { total_blocks, waiting_sequences, ..LoadRecord::default() };
        fleet.heard(slot, &load, draining);
        for _ in 0..legs {
            // Not given back: it is on its way.
            let _live = fleet.book(slot, &request(16), 0, true);
        }
        if refused {
            fleet.refused(slot);
        }
    }
    fleet
}

fn request(prompt_tokens: u32) -> Request {
    Request { prompt_tokens, block_size: 16, max_tokens: 1, session: None }
}

fn shape() -> impl Strategy<Value = Shape> {
    let rarely = || prop::bool::weighted(0.2);
    (rarely(), 1..6u64, 0..4u64, rarely(), rarely(), 0..3usize)
}

proptest! {
    /// Else somebody would wait for a place that he has, or be called to one that he has not.
    #[test]
    fn openings_say_what_the_choice_says(
        shapes in proptest::collection::vec(shape(), 0..5),
        prompt_tokens in 1..100u32,
        forbidden in 0..5u32,
    ) {
        let (fleet, request) = (fleet(&shapes), request(prompt_tokens));
        let allowed = |slot| slot != forbidden;
        let chosen = fleet.choose(&request, |_| 0, allowed, &mut SplitMix64::new(1));
        let expected: Result<(), NoChoice> = chosen.map(|_| ());
        prop_assert_eq!(fleet.openings(allowed).check(request.blocks()), expected);
        let open = (0..).zip(&shapes).any(|(slot, _)| allowed(slot) && fleet.has_opening(slot));
        prop_assert_eq!(open, fleet.openings(allowed).now > 0);
    }
}
