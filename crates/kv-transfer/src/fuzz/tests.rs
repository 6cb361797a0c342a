use super::*;
use crate::message::{FirstToken, Hello, Message, Part, VERSION};
use crate::{BlockRun, HandoffError, HandoffLayout};
use estafette_fuzzing::drive;
use estafette_kernels::KvLayout;
use estafette_types::{Incarnation, TransferId};
use std::time::Duration;

fn layout() -> HandoffLayout {
    let kv = KvLayout { num_blocks: 9, block_size: 16, layers: 5, kv_heads: 2, head_dim: 8 };
    let numerics_id = "test/1".into();
    HandoffLayout { kv, layers_per_group: 2, model_digest: vec![1; 32], numerics_id }
}

fn messages() -> Vec<Message> {
    let (transfer, attempt, epoch) = (TransferId(3), 2, 4);
    let hello = Hello {
        version: VERSION,
        sender: Incarnation(1),
        receiver: Incarnation(2),
        layout: layout(),
        boot_id: "b".into(),
    };
    let runs = vec![BlockRun { first_logical: 0, first_physical: 7, count: 2 }];
    let ttl = Duration::from_secs(3);
    let error = HandoffError::ChecksumMismatch { block: 1, group: 2 };
    vec![
        Message::Hello(hello),
        Message::Welcome { receiver: Incarnation(2), credit_bytes: 9, pool_bytes: 99 },
        Message::Reject(HandoffError::Refused("no".into())),
        Message::Push { transfer, attempt, blocks: 6, ttl },
        Message::Grant { transfer, attempt, epoch, runs, units: 4, ttl },
        Message::Part(Part {
            transfer,
            epoch,
            group: 1,
            first_block: 2,
            round: 1,
            checksums: vec![5, 6],
        }),
        Message::Ack { bytes: 8 },
        Message::Commit {
            transfer,
            epoch,
            first_token: FirstToken { token: 1, logprob: Some(-0.5) },
        },
        Message::Done { transfer, epoch },
        Message::Resend { transfer, epoch, round: 1, group: 1, blocks: vec![2, 3] },
        Message::Failed { transfer, attempt, error: error.clone() },
        Message::Stopped { transfer, attempt, error },
    ]
}

#[test]
fn frames() {
    let each: Vec<Vec<u8>> = messages().iter().map(encode).collect();
    let all = each.concat();
    let mut corpus: Vec<&[u8]> = each.iter().map(Vec::as_slice).collect();
    corpus.push(&all);
    drive(hand_off_frames, 1, &corpus);
}
