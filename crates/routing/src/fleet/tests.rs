use super::*;

const REQUEST: Request =
    Request { prompt_tokens: 100, block_size: 16, max_tokens: 10, session: None };

fn traits(role: Role) -> WorkerTraits {
    WorkerTraits {
        role,
        max_num_seqs: 4,
        max_waiting: 4,
        max_num_batched_tokens: 512,
        takes_kv: true,
        name_hash: 0,
    }
}

fn load() -> LoadRecord {
    LoadRecord { free_blocks: 100, total_blocks: 100, ..LoadRecord::default() }
}

fn fleet(roles: &[Role]) -> Fleet {
    let mut fleet = Fleet::default();
    for (slot, role) in (0..).zip(roles) {
        fleet.join(slot, traits(*role));
        fleet.heard(slot, &load(), false);
    }
    fleet
}

fn choice(fleet: &Fleet, allowed: impl Fn(u32) -> bool) -> Result<Choice, NoChoice> {
    fleet.choose(&REQUEST, |_| 0, allowed, &mut SplitMix64::new(1)).map(|decision| decision.choice)
}

#[test]
fn a_worker_is_chosen_from_its_first_load_until_it_drains_or_its_state_is_lost() {
    let mut fleet = Fleet::default();
    fleet.join(3, traits(Role::Decode));
    assert_eq!(choice(&fleet, |_| true), Err(NoChoice::NoWorker));
    assert!(fleet.heard(3, &load(), false));
    assert_eq!(choice(&fleet, |_| true), Ok(Choice::Aggregated { decode: 3 }));
    assert!(!fleet.heard(3, &load(), false), "nothing new");
    assert!(fleet.heard(3, &load(), true));
    assert_eq!(fleet.count(Role::Decode), 0);
    assert!(fleet.heard(3, &load(), false));
    fleet.unsynced(3);
    assert_eq!(fleet.count(Role::Decode), 0);
    assert_eq!(choice(&fleet, |_| true), Err(NoChoice::NoWorker));
}

#[test]
fn who_is_not_allowed_is_not_chosen() {
    let fleet = fleet(&[Role::Prefill, Role::Decode, Role::Prefill, Role::Decode]);
    for _ in 0..50 {
        let expected = Choice::Disaggregated { prefill: 2, decode: 1 };
        assert_eq!(choice(&fleet, |slot| slot == 2 || slot == 1), Ok(expected));
    }
    assert_eq!(choice(&fleet, |slot| slot == 3), Ok(Choice::Aggregated { decode: 3 }));
}

#[test]
fn a_worker_that_takes_no_kv_prefills_for_itself() {
    let mut fleet = fleet(&[Role::Prefill]);
    fleet.join(1, WorkerTraits { takes_kv: false, ..traits(Role::Decode) });
    fleet.heard(1, &load(), false);
    assert_eq!(choice(&fleet, |_| true), Ok(Choice::Aggregated { decode: 1 }));
}

#[test]
fn what_was_booked_counts_at_once_and_dies_with_the_worker() {
    let mut fleet = fleet(&[Role::Decode, Role::Decode]);
    let receipt = fleet.book(0, &REQUEST, 0, true);
    for _ in 0..50 {
        assert_eq!(choice(&fleet, |_| true), Ok(Choice::Aggregated { decode: 1 }));
    }
    fleet.leave(0);
    fleet.join(0, traits(Role::Decode));
    fleet.heard(0, &load(), false);
    fleet.finished(receipt);
    assert_eq!(fleet.receipts.pending(0).sequences, 0);
}

fn named(roles: &[Role]) -> Fleet {
    let mut fleet = Fleet::default();
    for (slot, role) in (0..).zip(roles) {
        fleet.join(slot, WorkerTraits { name_hash: u64::from(slot) + 100, ..traits(*role) });
        fleet.heard(slot, &load(), false);
    }
    fleet
}

#[test]
fn a_session_stays_with_its_worker_while_that_is_about_as_good_and_only_then() {
    let mut fleet = named(&[Role::Decode; 4]);
    let chosen = |fleet: &Fleet, session, seed| {
        let request = Request { session: Some(session), ..REQUEST };
        let mut rng = SplitMix64::new(seed);
        match fleet.choose(&request, |_| 0, |_| true, &mut rng).unwrap().choice {
            Choice::Aggregated { decode } | Choice::Disaggregated { decode, .. } => decode,
        }
    };
    let mut per_worker = [0; 4];
    for session in 0..400 {
        let own = chosen(&fleet, session, 1);
        per_worker[own as usize] += 1;
        assert!((2..6).all(|seed| chosen(&fleet, session, seed) == own));
    }
    assert!(per_worker.iter().all(|count| (50..150).contains(count)), "{per_worker:?}");
    // The worker of session 0 gets a long queue.
    let own = chosen(&fleet, 0, 1);
    let busy = LoadRecord { waiting_prefill_tokens: 100_000, waiting_sequences: 2, ..load() };
    fleet.heard(own, &busy, false);
    assert_ne!(chosen(&fleet, 0, 1), own);
}

#[test]
fn a_worker_that_leaves_moves_only_its_own_sessions() {
    let own = |fleet: &Fleet, session: u64| {
        fleet.workers().max_by_key(|(_, w)| affinity(session, w.traits().name_hash)).unwrap().0
    };
    let before = named(&[Role::Decode; 5]);
    let mut after = named(&[Role::Decode; 5]);
    after.leave(2);
    for session in 0..200 {
        let was = own(&before, session);
        assert!(was == 2 || own(&after, session) == was);
    }
}

/// The next record of a worker whose steps take `per_token` seconds for each prompt token.
fn stepped(last: &LoadRecord, tokens: u64, per_token: f64) -> LoadRecord {
    let mut next = *last;
    next.steps += 1;
    next.done.computed += tokens;
    next.step_micros = (tokens as f64 * per_token * 1e6) as u64;
    next
}

fn show(fleet: &mut Fleet, slot: u32, steps: usize, per_token: f64) {
    // Of different sizes, or what belongs to the token could as well belong to the step.
    for tokens in [256, 64].into_iter().cycle().take(steps) {
        let last = *fleet.worker(slot).unwrap().load();
        fleet.heard(slot, &stepped(&last, tokens, per_token), false);
    }
}

/// Seconds for each token of a step like those of [`show`].
fn cost_of(fleet: &Fleet, slot: u32) -> f64 {
    let worker = fleet.worker(slot).unwrap();
    let step = fleet.curves.cost(&worker.step, worker.traits().role, fleet.workers.len());
    step.base / 256.0 + step.per_prefill_token
}

#[test]
fn a_worker_that_has_shown_nothing_is_taken_to_be_like_its_pool_and_not_like_the_default() {
    let mut fleet = fleet(&[Role::Prefill, Role::Prefill, Role::Decode]);
    show(&mut fleet, 0, 20, 2e-3);
    assert!((cost_of(&fleet, 1) - 2e-3).abs() < 2e-4, "{}", cost_of(&fleet, 1));
    assert!((cost_of(&fleet, 2) - 2e-3).abs() < 2e-4, "nothing is known of its own pool");
    show(&mut fleet, 1, 20, 1e-3);
    assert!((cost_of(&fleet, 1) - 1e-3).abs() < 1e-4, "its own steps say more");
}

#[test]
fn a_worker_that_had_a_bad_moment_gets_another_chance() {
    let mut fleet = fleet(&[Role::Prefill, Role::Decode]);
    show(&mut fleet, 0, 4, 5e-3);
    show(&mut fleet, 1, 100, 1e-3);
    assert!(cost_of(&fleet, 0) > 4e-3, "still believed");
    show(&mut fleet, 1, 400, 1e-3);
    assert!(cost_of(&fleet, 0) < 2e-3, "{}", cost_of(&fleet, 0));
}

#[test]
fn an_hour_of_decoding_does_not_make_a_pool_forget_how_fast_it_prefills() {
    let mut fleet = fleet(&[Role::Prefill, Role::Decode]);
    show(&mut fleet, 0, 20, 2e-3);
    let mut load = LoadRecord { decoding_sequences: 4, decoding_tokens: 400, ..load() };
    for _ in 0..10_000 {
        load.steps += 1;
        load.done.generated += 4;
        load.step_micros = 9_000;
        fleet.heard(1, &load, false);
    }
    let cost = cost_of(&fleet, 0);
    assert!((cost - 2e-3).abs() < 2e-4, "{cost}");
    let other = cost_of(&fleet, 1);
    assert!((other - 2e-3).abs() < 4e-4, "the other pool is like it: {other}");
}

#[test]
fn a_worker_that_refused_is_full_until_it_says_otherwise() {
    let mut fleet = fleet(&[Role::Decode]);
    fleet.heard(0, &LoadRecord { waiting_sequences: 1, ..load() }, false);
    fleet.refused(0);
    assert_eq!(choice(&fleet, |_| true), Err(NoChoice::Saturated));
    fleet.heard(0, &load(), false);
    assert_eq!(choice(&fleet, |_| true), Ok(Choice::Aggregated { decode: 0 }));
    fleet.refused(0);
    let late = "an idle worker says nothing more, so a late refusal must not stay";
    assert_eq!(choice(&fleet, |_| true), Ok(Choice::Aggregated { decode: 0 }), "{late}");
}
