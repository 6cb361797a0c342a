use super::*;
use crate::policy::Policy;
use crate::presets::{DEFAULT_PRESET, preset};
use crate::settings::ClusterSettings;
use estafette_types::SplitMix64;

fn load(blocks: u64) -> LoadRecord {
    LoadRecord { free_blocks: blocks, total_blocks: blocks, ..LoadRecord::default() }
}

fn router(policy: Policy, prefill: u32, decode: u32) -> Router {
    let settings = ClusterSettings::new(prefill, decode, preset(DEFAULT_PRESET).unwrap());
    let seats = settings.roles().map(|role| (role, load(1000))).collect::<Vec<_>>();
    Router::new(policy.build(&settings, SplitMix64::new(1)), seats.into_iter(), &settings)
}

fn hashes(first: u128, count: u128) -> Vec<BlockHash> {
    (first..first + count).map(BlockHash).collect()
}

fn update(number: u64, stored: &[BlockHash]) -> StateUpdate {
    let events = stored.iter().copied().map(KvEvent::Stored).collect();
    StateUpdate { number, load: load(1000), events, snapshot: false }
}

#[test]
fn bookings_return_to_zero() {
    for policy in Policy::all() {
        let mut router = router(policy, 2, 2);
        let mut legs = Vec::new();
        for turn in 0..20 {
            let routed = router.route(turn, 5000, &hashes(u128::from(turn) * 100 + 1, 78)).unwrap();
            match routed.choice {
                Choice::Aggregated { decode } => legs.push((turn, decode)),
                Choice::Disaggregated { prefill, decode } => {
                    legs.extend([(turn, prefill), (turn, decode)]);
                }
            }
        }
        assert!(router.leftover().is_some());
        for (turn, slot) in legs {
            let leg = LegView { turn, slot };
            if turn % 2 == 0 {
                router.first_token(leg);
            }
            router.ended(leg);
            router.ended(leg);
            router.first_token(leg);
        }
        assert_eq!(router.leftover(), None, "{}", policy.name());
    }
}

#[test]
fn a_missing_update_takes_a_worker_out_until_its_snapshot() {
    let mut router = router(Policy::LeastLoaded, 0, 2);
    assert!(!router.heard(0, &update(0, &hashes(1, 3))));
    assert!(router.heard(0, &update(2, &hashes(10, 3))), "number 1 is missing");
    assert!(!router.heard(0, &update(3, &[])), "it was asked for already");
    for turn in 0..10 {
        let routed = router.route(turn, 200, &hashes(1, 3)).unwrap();
        assert_eq!(routed.choice, Choice::Aggregated { decode: 1 });
    }
    let snapshot = StateUpdate { snapshot: true, ..update(4, &hashes(50, 2)) };
    assert!(!router.heard(0, &snapshot));
    assert_eq!(router.index.blocks_of(WorkerSlot(0)), 2, "what it held before is forgotten");
    let choice = router.route(99, 200, &hashes(50, 3)).unwrap();
    assert_eq!((choice.choice, choice.cached_blocks), (Choice::Aggregated { decode: 0 }, 2));
}

#[test]
fn at_least_one_token_is_computed() {
    let ask = Ask { turn: 0, prompt_tokens: 128, block_size: 64 };
    assert_eq!([0, 1, 2, 9].map(|blocks| ask.uncached(blocks)), [128, 64, 64, 64]);
    assert_eq!(Ask { prompt_tokens: 129, ..ask }.uncached(2), 1);
}
