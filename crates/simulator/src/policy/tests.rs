use super::*;
use crate::presets::{DEFAULT_PRESET, preset};
use crate::router::{Ask, Booked, LegView, Seat};
use estafette_routing::{Choice, NoChoice};
use estafette_types::{LoadRecord, Role};

fn settings(prefill: u32, decode: u32) -> ClusterSettings {
    ClusterSettings::new(prefill, decode, preset(DEFAULT_PRESET).unwrap())
}

fn seat(slot: u32, role: Role) -> Seat {
    Seat {
        slot,
        role,
        load: LoadRecord { free_blocks: 10_000, total_blocks: 10_000, ..LoadRecord::default() },
        cached_blocks: 0,
        booked: Booked::default(),
        max_num_seqs: 256,
        max_waiting: 1024,
    }
}

fn seats(count: u32) -> Vec<Seat> {
    (0..count).map(|slot| seat(slot, Role::Decode)).collect()
}

fn ask(prompt_tokens: u32) -> Ask {
    Ask { turn: 0, prompt_tokens, block_size: 64 }
}

fn chosen(policy: Policy, ask: &Ask, seats: &[Seat]) -> u32 {
    let mut policy = policy.build(&settings(0, seats.len() as u32), SplitMix64::new(1));
    match policy.choose(ask, seats).unwrap() {
        Choice::Aggregated { decode } => decode,
        Choice::Disaggregated { .. } => panic!("there is no prefill worker"),
    }
}

/// A policy that is asked again and again while nothing changes.
fn shares(policy: Policy, ask: &Ask, seats: &[Seat], seed: u64) -> Vec<u32> {
    let mut built = policy.build(&settings(0, seats.len() as u32), SplitMix64::new(seed));
    let slot = |choice| match choice {
        Choice::Aggregated { decode } | Choice::Disaggregated { decode, .. } => decode,
    };
    (0..1000).map(|_| slot(built.choose(ask, seats).unwrap())).collect()
}

#[test]
fn equals_get_equal_shares_and_the_same_seed_the_same_choices() {
    for policy in Policy::all() {
        let slots = shares(policy, &ask(3000), &seats(4), 7);
        for slot in 0..4 {
            let share = slots.iter().filter(|s| **s == slot).count();
            assert!((190..=310).contains(&share), "{}: {share} of 1000 to {slot}", policy.name());
        }
        assert_eq!(slots, shares(policy, &ask(3000), &seats(4), 7));
    }
}

#[test]
fn a_full_hit_does_not_make_all_others_equal() {
    // Everything is cached everywhere: load decides.
    let mut seats = seats(4);
    for (i, seat) in seats.iter_mut().enumerate() {
        seat.cached_blocks = 100;
        seat.booked = Booked {
            requests: 9 - i as u64,
            prefill_tokens: 900 - 10 * i as u64,
            context_tokens: 90_000,
        };
    }
    for policy in
        [Policy::LMetricA, Policy::LMetricB, Policy::LeastWork, Policy::Dynamo, Policy::Baseten]
    {
        assert_eq!(chosen(policy, &ask(6400), &seats), 3, "{}", policy.name());
    }
}

#[test]
fn each_published_rule_takes_whom_its_formula_says() {
    let mut seats = seats(3);
    // 0 holds much and is busy, 1 holds a little, 2 holds nothing and is idle.
    seats[0].cached_blocks = 90;
    seats[0].booked = Booked { requests: 12, prefill_tokens: 20_000, context_tokens: 400_000 };
    seats[0].load.waiting_sequences = 12;
    seats[0].load.free_blocks = 5000;
    seats[1].cached_blocks = 40;
    seats[1].booked = Booked { requests: 2, prefill_tokens: 1000, context_tokens: 20_000 };
    let ask = ask(6400);
    let expected = [
        (Policy::LeastLoaded, 2),
        // 20,640 against 4,840 and 6,400 tokens.
        (Policy::LeastWork, 1),
        // 420,640 against 24,840 and 6,400.
        (Policy::Dynamo, 2),
        // 640·13 against 3,840·3 and 6,400·1.
        (Policy::LMetricA, 2),
        (Policy::LMetricB, 2),
        // A match of 0.9, and 12 requests more are below 64.
        (Policy::CacheAware, 0),
        // 640 tokens are left.
        (Policy::VllmKvAware, 0),
        // 1.8 + 0 + 0.5 against 0.8 + 1 + 1 and 0 + 1 + 1.
        (Policy::LlmD, 1),
        // The best of those that do not match has 400,000 less in flight.
        (Policy::LlmDSticky, 2),
        // 417.8 + 5100 + 12.8 against 229.1 + 350 + 76.8 and 350 + 100 + 128.
        (Policy::Baseten, 2),
    ];
    for (policy, slot) in expected {
        assert_eq!(chosen(policy, &ask, &seats), slot, "{}", policy.name());
    }
    seats[0].booked.context_tokens = 286_720;
    assert_eq!(chosen(Policy::LlmDSticky, &ask, &seats), 0, "not more than the threshold");
    seats[0].booked.requests = 80;
    assert_eq!(chosen(Policy::CacheAware, &ask, &seats), 2, "78 requests more, and more than half");
}

#[test]
fn pools_that_were_set_apart_stay_apart() {
    let pool = |prefill: u32| -> Vec<Seat> {
        let roles = (0..prefill).map(|slot| seat(slot, Role::Prefill));
        roles.chain((prefill..prefill + 2).map(|slot| seat(slot, Role::Decode))).collect()
    };
    let ours = [Policy::Ours, Policy::OursNoDeflection];
    for policy in Policy::all().filter(|policy| !ours.contains(policy)) {
        let mut built = policy.build(&settings(2, 2), SplitMix64::new(1));
        let choice = built.choose(&ask(1000), &pool(2)).unwrap();
        assert!(matches!(choice, Choice::Disaggregated { prefill: 0..=1, decode: 2..=3 }));
        // All of the first pool are full.
        assert_eq!(
            built.choose(&ask(1000), &pool(0)),
            Err(NoChoice::Saturated),
            "{}",
            policy.name()
        );
    }
}

#[test]
fn without_deflection_prompts_stay_in_their_pool() {
    let mut seats = vec![seat(0, Role::Prefill), seat(1, Role::Decode)];
    seats[0].load.waiting_prefill_tokens = 1_000_000;
    let choices = [Policy::Ours, Policy::OursNoDeflection].map(|policy| {
        let mut built = policy.build(&settings(1, 1), SplitMix64::new(1));
        built.heard(0, &seats[0].load);
        built.choose(&ask(1000), &seats).unwrap()
    });
    let pair = Choice::Disaggregated { prefill: 0, decode: 1 };
    assert_eq!(choices, [Choice::Aggregated { decode: 1 }, pair]);
}

#[test]
fn ours_does_not_herd_between_two_records() {
    let mut policy = Policy::Ours.build(&settings(0, 4), SplitMix64::new(1));
    let mut shares = [0; 4];
    for turn in 0..40 {
        let ask = Ask { turn, ..ask(4000) };
        let Ok(Choice::Aggregated { decode }) = policy.choose(&ask, &seats(4)) else {
            panic!("no choice")
        };
        policy.dispatched(LegView { turn, slot: decode }, &ask, 0, true);
        shares[decode as usize] += 1;
    }
    assert_eq!(shares, [10; 4], "no record came, and receipts tell");
}

#[test]
fn the_size_of_a_block_does_not_decide() {
    // The same tokens are cached, in blocks of 32 and of 64.
    for policy in Policy::all() {
        let slots = [32, 64].map(|block_size| {
            let mut seats = seats(4);
            for (i, seat) in seats.iter_mut().enumerate() {
                seat.cached_blocks = 640 * i as u32 / block_size;
                seat.load.total_blocks = 640_000 / u64::from(block_size);
                seat.load.free_blocks = 640_000 / u64::from(block_size);
                seat.booked =
                    Booked { requests: 2, prefill_tokens: 640 * i as u64, context_tokens: 9000 };
            }
            let ask = Ask { turn: 0, prompt_tokens: 6401, block_size };
            shares(policy, &ask, &seats, 3)
        });
        // Baseten's has a term in tokens beside those in blocks; here both agree.
        assert_eq!(slots[0], slots[1], "{}", policy.name());
    }
}

#[test]
fn names_lead_back_to_their_policies() {
    for policy in Policy::all() {
        assert_eq!(policy.name().parse(), Ok(policy));
    }
    let error = "dynamos".parse::<Policy>().unwrap_err().to_string();
    assert!(error.contains("`dynamos`") && error.contains("dynamo, "), "{error}");
}
