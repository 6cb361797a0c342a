//! The sending side of a hand-off in the hands of the test: it can wait, lie, break and freeze.

use estafette_integration_tests::PATIENCE;
use estafette_integration_tests::leg::TestRequest;
use estafette_integration_tests::worker::TestWorker;
use estafette_kernels::{KvLayout, KvMemory};
use estafette_kv_transfer::{
    FaultPlan, FirstToken, HandoffLayout, PushHandle, PushOutcome, PushRequest, Pusher,
    PusherLimits, TransportChoice,
};
use estafette_types::{BlockId, Incarnation, TokenId, TransferId};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;

pub(crate) struct FakePrefill {
    pusher: Pusher,
    outcomes: mpsc::Receiver<PushOutcome>,
    layout: HandoffLayout,
}

impl FakePrefill {
    /// Agrees with `decode`, which must run the tiny model, on everything but the content of its blocks.
    pub(crate) fn new(
        decode: &TestWorker,
        transport: TransportChoice,
        fault: Option<FaultPlan>,
    ) -> Self {
        let pool = decode.info.pool.clone().expect("a pool");
        let kv = KvLayout { num_blocks: 64, block_size: 16, layers: 2, kv_heads: 2, head_dim: 16 };
        let layout = HandoffLayout {
            kv,
            layers_per_group: 1,
            model_digest: pool.model_digest.to_vec(),
            numerics_id: pool.numerics_id,
        };
        let memory = Arc::new(KvMemory::anonymous(kv.total_bytes()).expect("memory"));
        let limits = PusherLimits { transport, fault, ..PusherLimits::default() };
        let (pusher, outcomes) = Pusher::new(memory, layout.clone(), Incarnation(1), limits);
        Self { pusher, outcomes, layout }
    }

    /// Asks for a grant for the blocks of `request`.
    pub(crate) fn push(
        &self,
        decode: &TestWorker,
        request: &TestRequest,
        transfer: TransferId,
    ) -> PushHandle {
        let blocks = request.prompt.len().div_ceil(16) as u32;
        let request = PushRequest {
            transfer,
            endpoint: decode.kv(),
            table: (0..blocks).map(BlockId).collect(),
            deadline: Instant::now() + PATIENCE,
        };
        self.pusher.start(request).expect("room")
    }

    /// Says that everything is there.
    pub(crate) fn finish(&self, handle: PushHandle, request: &TestRequest) {
        self.finish_with(handle, request, 0);
    }

    /// The same, with another first token.
    pub(crate) fn finish_with(&self, handle: PushHandle, request: &TestRequest, token: TokenId) {
        let blocks = request.prompt.len().div_ceil(16) as u32;
        for group in 0..self.layout.groups() {
            handle.ready(group, 0..blocks);
        }
        handle.commit(FirstToken { token, logprob: None });
    }

    pub(crate) async fn outcome(&mut self) -> PushOutcome {
        let outcome = tokio::time::timeout(PATIENCE, self.outcomes.recv()).await;
        outcome.expect("an outcome in time").expect("open")
    }
}
