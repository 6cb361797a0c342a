use super::*;
use estafette_scheduler::{NewSequence, Scheduler, SchedulerConfig};
use estafette_types::{BlockId, HashSeed, Limits, SplitMix64, block_hashes};

fn scheduled(start: u32, rows: u32, ends_prompt: bool) -> ScheduledSequence {
    ScheduledSequence {
        id: SequenceId(1),
        start,
        tokens: vec![0; rows as usize],
        block_table: Vec::new(),
        samples: ends_prompt,
        ends_prompt,
    }
}

#[test]
fn a_block_is_announced_once_when_it_is_full_or_the_prompt_ends() {
    // 70 tokens in chunks of 20, blocks of 16: four full ones, and the last one of 6 tokens.
    let chunks = [(0, 20), (20, 20), (40, 20), (60, 10)];
    let announced: Vec<_> =
        chunks.map(|(at, rows)| finished_blocks(&scheduled(at, rows, at == 60), 16)).to_vec();
    assert_eq!(announced, [0..1, 1..2, 2..3, 3..5]);
    assert!(finished_blocks(&scheduled(3, 5, false), 16).is_empty());
    assert_eq!(finished_blocks(&scheduled(16, 1, true), 16), 1..2);
}

/// What the module relies on: the blocks of a prompt do not change from its first step to its end, in a pool
/// that is far too small for all prompts.
#[test]
fn a_prefilling_sequence_keeps_its_blocks() {
    let mut scheduler = Scheduler::new(SchedulerConfig {
        block_size: 16,
        num_blocks: 20,
        max_num_batched_tokens: 24,
        max_num_seqs: 8,
        max_waiting: 1000,
        max_model_len: 256,
    });
    let mut rng = SplitMix64::new(5);
    let seed = HashSeed::new(b"model", "", "");
    for id in 0..200 {
        let len = 1 + rng.below(250);
        let prompt: Vec<u32> = (0..len).map(|_| rng.below(2) as u32).collect();
        let hashes = block_hashes(seed, &prompt, 16);
        let limits = Limits { max_tokens: 9, ..Limits::default() };
        let id = SequenceId(id);
        scheduler
            .add(NewSequence {
                id,
                prompt,
                output: Vec::new(),
                hashes,
                seed,
                limits,
                mode: Mode::PrefillOnly,
            })
            .unwrap();
    }
    let mut tables: BTreeMap<SequenceId, Vec<BlockId>> = BTreeMap::new();
    let mut finished = 0;
    while !scheduler.is_idle() {
        let plan = scheduler.schedule();
        for scheduled in &plan.sequences {
            let table = tables.entry(scheduled.id).or_insert_with(|| scheduled.block_table.clone());
            assert_eq!(*table, scheduled.block_table);
        }
        let samples = plan.sequences.iter().filter(|s| s.samples);
        let tokens: Vec<_> = samples.map(|s| (s.id, 7)).collect();
        finished += tokens.len();
        drop(scheduler.complete(&plan, &tokens));
        if plan.sequences.is_empty() || rng.below(3) == 0 {
            (0..200).for_each(|id| scheduler.release_held(SequenceId(id)));
        }
        scheduler.check_integrity().unwrap();
    }
    assert_eq!(finished, 200);
}
