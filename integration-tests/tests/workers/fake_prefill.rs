//! The sending side of a hand-off in the hands of the test: it can wait, lie, break and freeze.

use estafette_integration_tests::PATIENCE;
use estafette_integration_tests::leg::{TestRequest, new_transfer, start_prefill};
use estafette_integration_tests::worker::TestWorker;
use estafette_kernels::{KvLayout, KvMemory};
use estafette_kv_transfer::{
    FaultPlan, FirstToken, HandoffLayout, PushHandle, PushOutcome, PushRequest, Pusher,
    PusherLimits, Receiver, ReceiverEvent, ReceiverLimits, TransportChoice,
};
use estafette_proto::v1::KvEndpoint;
use estafette_types::{BlockId, Incarnation, SequenceId, TokenId, TransferId};
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
        let layout = layout_of(decode);
        let memory = Arc::new(KvMemory::anonymous(layout.kv.total_bytes()).expect("memory"));
        Self::over(memory, layout, transport, fault)
    }

    /// The same, with the content too: `prefill` computes it, and hands it over to the test.
    pub(crate) async fn with_kv(
        decode: &TestWorker,
        transport: TransportChoice,
        fault: Option<FaultPlan>,
        prefill: &TestWorker,
        request: &TestRequest,
    ) -> Self {
        let layout = layout_of(decode);
        let memory = Arc::new(KvMemory::anonymous(layout.kv.total_bytes()).expect("memory"));
        take_kv(prefill, request, memory.clone(), layout.clone()).await;
        Self::over(memory, layout, transport, fault)
    }

    fn over(
        memory: Arc<KvMemory>,
        layout: HandoffLayout,
        transport: TransportChoice,
        fault: Option<FaultPlan>,
    ) -> Self {
        // Three units a part, so that a prompt has several.
        let part_bytes = 3 * layout.unit_bytes(0);
        let limits =
            PusherLimits { transport, faults: fault, part_bytes, ..PusherLimits::default() };
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

fn layout_of(decode: &TestWorker) -> HandoffLayout {
    let pool = decode.info.pool.clone().expect("a pool");
    HandoffLayout {
        kv: KvLayout { num_blocks: 64, block_size: 16, layers: 2, kv_heads: 2, head_dim: 16 },
        layers_per_group: 1,
        model_digest: pool.model_digest.to_vec(),
        numerics_id: pool.numerics_id,
    }
}

/// Has `prefill` compute the prompt and push it into `memory`, block by block in logical order.
async fn take_kv(
    prefill: &TestWorker,
    request: &TestRequest,
    memory: Arc<KvMemory>,
    layout: HandoffLayout,
) {
    let here = "127.0.0.1:0".parse().expect("an address");
    let limits = ReceiverLimits::default();
    let bound = Receiver::bind(memory, layout, here, None, Incarnation(77), limits, None).await;
    let (receiver, mut events) = bound.expect("bound");
    let endpoint = KvEndpoint {
        worker_id: "test".into(),
        incarnation: 77,
        tcp: receiver.tcp_address().to_string(),
        unix_socket: String::new(),
    };
    let transfer = new_transfer();
    receiver.expect(transfer, SequenceId(1), Instant::now() + PATIENCE).expect("room");
    let leg = start_prefill(prefill, request, transfer, endpoint).await.expect("taken in");
    let blocks = request.prompt.len().div_ceil(16) as u32;
    let asked = events.recv().await;
    assert!(matches!(asked, Some(ReceiverEvent::GrantRequested { .. })), "{asked:?}");
    let all: Vec<_> = (0..blocks).map(|b| (b, BlockId(b))).collect();
    receiver.grant(transfer, &all).expect("granted");
    let ended = events.recv().await;
    assert!(matches!(ended, Some(ReceiverEvent::Completed { .. })), "{ended:?}");
    leg.finish().await.expect("prefilled");
}
