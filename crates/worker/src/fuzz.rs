//! Entry point of the fuzzers: the start of a leg, as a worker's socket takes it.

use crate::identity::Identity;
use crate::pulse::Pulse;
use crate::service::WorkerService;
use estafette_proto::v1;
use estafette_types::{Incarnation, Role, WorkerId};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Instant;
use tokio::sync::mpsc;

const VOCAB_SIZE: u32 = 1000;
const BLOCK_SIZE: u32 = 16;

/// A `RunStart` for a worker of either role, which the first byte chooses.
pub fn leg_start(bytes: &[u8]) {
    let Some((role, bytes)) = bytes.split_first() else { return };
    let role = if role % 2 == 0 { Role::Prefill } else { Role::Decode };
    let Ok(start) = prost::Message::decode(bytes) else { return };
    let start: v1::RunStart = start;
    let (commands, _queue) = sync_channel(1);
    let (drains, _wishes) = mpsc::channel(1);
    let pulse = Pulse::new(Instant::now());
    let service = WorkerService::<()>::new(Arc::new(identity(role)), commands, pulse, drains);
    // What gets through is what the engine's thread relies on.
    if let Ok((leg, _events)) = service.leg(start) {
        let given = || leg.prompt.iter().chain(&leg.output);
        assert!(given().all(|token| *token < VOCAB_SIZE));
        assert_eq!(leg.hashes.len(), given().count() / BLOCK_SIZE as usize);
        assert!(leg.limits.max_tokens > 0 && leg.params.validate().is_ok());
        assert_eq!(matches!(leg.leg, crate::Leg::Prefill { .. }), role == Role::Prefill);
    }
}

fn identity(role: Role) -> Identity {
    Identity {
        id: WorkerId("fuzz".into()),
        incarnation: Incarnation(1),
        role,
        address: String::new(),
        kv: None,
        model_digest: Vec::new(),
        numerics_id: String::new(),
        block_size: BLOCK_SIZE,
        max_model_len: 4096,
        vocab_size: VOCAB_SIZE,
        max_num_seqs: 1,
        max_waiting: 1,
        max_num_batched_tokens: 64,
    }
}

#[cfg(test)]
mod tests;
