//! Who a worker is: what it tells the router when it joins.

use estafette_proto::v1;
use estafette_types::{Incarnation, Role, WorkerId};

/// Fixed for the life of the process.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name.
    pub id: WorkerId,
    /// Drawn at start.
    pub incarnation: Incarnation,
    /// Its pool.
    pub role: Role,
    /// host:port of its gRPC services.
    pub address: String,
    /// Where it takes KV blocks; decode workers only.
    pub kv: Option<v1::KvEndpoint>,
    /// Of the model file: see `GgufFile::digest`.
    pub model_digest: Vec<u8>,
    /// Equal ids mean bit-identical tokens.
    pub numerics_id: String,
    /// Tokens in a block.
    pub block_size: u32,
    /// The longest sequence.
    pub max_model_len: u32,
    /// Token ids are below this.
    pub vocab_size: u32,
    /// The most sequences that run at once.
    pub max_num_seqs: u32,
    /// The most sequences that wait.
    pub max_waiting: u32,
    /// The most tokens of one step.
    pub max_num_batched_tokens: u32,
}

impl Identity {
    /// As sent to the router.
    pub fn to_wire(&self) -> v1::WorkerInfo {
        v1::WorkerInfo {
            worker_id: self.id.0.clone(),
            incarnation: self.incarnation.0,
            role: v1::Role::from(self.role).into(),
            address: self.address.clone(),
            kv: self.kv.clone(),
            pool: Some(v1::PoolIdentity {
                model_digest: self.model_digest.clone().into(),
                block_size: self.block_size,
                numerics_id: self.numerics_id.clone(),
                max_model_len: self.max_model_len,
                vocab_size: self.vocab_size,
            }),
            max_num_seqs: self.max_num_seqs,
            max_waiting: self.max_waiting,
            max_num_batched_tokens: self.max_num_batched_tokens,
        }
    }
}
