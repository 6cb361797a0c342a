//! Two pools in one process and what connects them.
#![allow(dead_code, reason = "every test file uses its own part")]
#![allow(clippy::panic, reason = "a test helper fails the test")]

use estafette_kernels::{KvLayout, KvMemory};
use estafette_kv_transfer::{
    FaultPlan, FirstToken, HandoffError, HandoffLayout, PushHandle, PushOutcome, PushRequest,
    PushStats, Pusher, PusherLimits, Receiver, ReceiverEvent, ReceiverLimits,
};
use estafette_proto::v1::KvEndpoint;
use estafette_security::Tls;
use estafette_security::testing::{Authority, Folder};
use estafette_types::{BlockId, Incarnation, SequenceId, TransferId};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::timeout;

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const FIRST: FirstToken = FirstToken { token: 7, logprob: Some(-0.5) };

pub(crate) fn layout(num_blocks: u32) -> HandoffLayout {
    let kv = KvLayout { num_blocks, block_size: 16, layers: 5, kv_heads: 2, head_dim: 8 };
    HandoffLayout {
        kv,
        layers_per_group: 2,
        model_digest: vec![1; 32],
        numerics_id: "test/1".into(),
    }
}

/// The ways that the suite goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransportChoice {
    Tcp,
    Tls,
    Shm,
}

impl TransportChoice {
    fn of_pusher(self) -> estafette_kv_transfer::TransportChoice {
        match self {
            Self::Tcp | Self::Tls => estafette_kv_transfer::TransportChoice::Tcp,
            Self::Shm => estafette_kv_transfer::TransportChoice::Shm,
        }
    }

    /// Certificates of the receiver and of the pusher.
    fn certificates(self) -> [Option<Tls>; 2] {
        if self != Self::Tls {
            return [None, None];
        }
        let authority = Authority::new();
        [(); 2].map(|()| Some(member(&authority)))
    }
}

pub(crate) fn member(authority: &Authority) -> Tls {
    let folder = Folder::new(&std::env::temp_dir());
    Tls::load(authority.member(folder.path())).expect("certificates")
}

pub(crate) struct Setup {
    pub(crate) transport: TransportChoice,
    pub(crate) receiver_layout: HandoffLayout,
    pub(crate) sender_layout: HandoffLayout,
    pub(crate) receiver_limits: ReceiverLimits,
    pub(crate) faults: Option<FaultPlan>,
    pub(crate) part_bytes: usize,
    pub(crate) stale: bool,
    /// Of the receiver and of the pusher.
    pub(crate) certificates: [Option<Tls>; 2],
}

impl Setup {
    pub(crate) fn new(transport: TransportChoice) -> Self {
        Self {
            transport,
            receiver_layout: layout(40),
            sender_layout: layout(64),
            receiver_limits: ReceiverLimits::default(),
            faults: None,
            part_bytes: 8 << 10,
            stale: false,
            certificates: transport.certificates(),
        }
    }

    pub(crate) async fn run(self) -> Pair {
        Pair::new(self).await
    }
}

pub(crate) struct Pair {
    pub(crate) receiver: Receiver,
    pub(crate) events: mpsc::Receiver<ReceiverEvent>,
    pub(crate) pusher: Option<Pusher>,
    pub(crate) outcomes: mpsc::Receiver<PushOutcome>,
    pub(crate) source: Arc<KvMemory>,
    pub(crate) target: Arc<KvMemory>,
    pub(crate) layout: HandoffLayout,
    pub(crate) endpoint: KvEndpoint,
}

fn socket_path() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("estafette-kv-{}-{n}.sock", std::process::id()))
}

pub(crate) fn read(memory: &KvMemory, at: usize, len: usize) -> Vec<u8> {
    assert!(at + len <= memory.len());
    let mut bytes = vec![0; len];
    // SAFETY: in range; the tests read only while nobody writes.
    #[expect(unsafe_code, reason = "looks into the pool")]
    unsafe {
        std::ptr::copy_nonoverlapping(memory.as_ptr().add(at), bytes.as_mut_ptr(), len);
    }
    bytes
}

pub(crate) fn fill(memory: &KvMemory, seed: u64) {
    let mut x = seed;
    for at in 0..memory.len() {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // SAFETY: in range; nobody else knows the memory yet.
        #[expect(unsafe_code, reason = "fills the pool")]
        unsafe {
            memory.as_ptr().add(at).write((x >> 56) as u8);
        }
    }
}

impl Pair {
    async fn new(setup: Setup) -> Self {
        let shm = setup.transport == TransportChoice::Shm;
        let source =
            Arc::new(KvMemory::anonymous(setup.sender_layout.kv.total_bytes()).expect("memory"));
        let target_bytes = setup.receiver_layout.kv.total_bytes();
        let target =
            if shm { KvMemory::shared(target_bytes) } else { KvMemory::anonymous(target_bytes) };
        let target = Arc::new(target.expect("memory"));
        fill(&source, 1);
        fill(&target, 2);
        let path = shm.then(socket_path);
        let [ours, theirs] = setup.certificates;
        let (receiver, events) = Receiver::bind(
            target.clone(),
            setup.receiver_layout.clone(),
            "127.0.0.1:0".parse().expect("address"),
            path.as_deref(),
            Incarnation(11),
            setup.receiver_limits,
            ours,
        )
        .await
        .expect("bind");
        let limits = PusherLimits {
            transport: setup.transport.of_pusher(),
            tls: theirs,
            faults: setup.faults,
            part_bytes: setup.part_bytes,
            ..PusherLimits::default()
        };
        let (pusher, outcomes) =
            Pusher::new(source.clone(), setup.sender_layout.clone(), Incarnation(22), limits);
        let endpoint = KvEndpoint {
            worker_id: "decode-0".into(),
            incarnation: if setup.stale { 10 } else { 11 },
            tcp: receiver.tcp_address().to_string(),
            unix_socket: path.map(|p| p.display().to_string()).unwrap_or_default(),
        };
        let layout = setup.receiver_layout;
        let pusher = Some(pusher);
        Self { receiver, events, pusher, outcomes, source, target, layout, endpoint }
    }

    pub(crate) fn start(&self, id: u128, table: &[u32], within: Duration) -> PushHandle {
        let request = PushRequest {
            transfer: TransferId(id),
            endpoint: self.endpoint.clone(),
            table: table.iter().map(|b| BlockId(*b)).collect(),
            deadline: Instant::now() + within,
        };
        self.pusher.as_ref().expect("pusher").start(request).expect("room")
    }

    pub(crate) fn expect(&self, id: u128) {
        let deadline = Instant::now() + PATIENCE;
        self.receiver.expect(TransferId(id), SequenceId(id as u64), deadline).expect("room");
    }

    pub(crate) fn grant(&self, id: u128, blocks: &[(u32, u32)]) -> Result<(), HandoffError> {
        let blocks: Vec<_> = blocks.iter().map(|(l, p)| (*l, BlockId(*p))).collect();
        self.receiver.grant(TransferId(id), &blocks)
    }

    pub(crate) async fn event(&mut self) -> ReceiverEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("open")
    }

    pub(crate) async fn asked(&mut self) -> u128 {
        match self.event().await {
            ReceiverEvent::GrantRequested { transfer, .. } => transfer.0,
            other => panic!("not a request: {other:?}"),
        }
    }

    pub(crate) async fn failed(&mut self) -> HandoffError {
        match self.event().await {
            ReceiverEvent::Failed { error, .. } => error,
            other => panic!("not a failure: {other:?}"),
        }
    }

    /// The failure, and how many leading blocks are verified.
    pub(crate) async fn failed_with(&mut self) -> (HandoffError, u32) {
        match self.event().await {
            ReceiverEvent::Failed { error, verified_blocks, .. } => (error, verified_blocks),
            other => panic!("not a failure: {other:?}"),
        }
    }

    pub(crate) async fn completed(&mut self) -> u128 {
        match self.event().await {
            ReceiverEvent::Completed { transfer, first_token, .. } => {
                assert_eq!(first_token, FIRST);
                transfer.0
            }
            other => panic!("not completed: {other:?}"),
        }
    }

    pub(crate) async fn next_outcome(&mut self) -> PushOutcome {
        timeout(PATIENCE, self.outcomes.recv()).await.expect("in time").expect("open")
    }

    pub(crate) async fn outcome(&mut self) -> Result<PushStats, HandoffError> {
        self.next_outcome().await.result
    }

    pub(crate) fn ready_all(&self, handle: &PushHandle, blocks: u32) {
        for group in 0..self.layout.groups() {
            handle.ready(group, 0..blocks);
        }
    }

    pub(crate) fn block_of(&self, memory: &KvMemory, block: u32) -> Vec<u8> {
        let len = self.layout.kv.block_bytes();
        read(memory, block as usize * len, len)
    }

    pub(crate) fn target_bytes(&self) -> Vec<u8> {
        read(&self.target, 0, self.target.len())
    }

    /// Each of `blocks` holds the source's bytes.
    pub(crate) fn assert_arrived(&self, table: &[u32], blocks: &[(u32, u32)]) {
        for (logical, physical) in blocks {
            let sent = self.block_of(&self.source, table[*logical as usize]);
            assert!(self.block_of(&self.target, *physical) == sent, "block {logical} differs");
        }
    }

    /// Each granted block holds the source's bytes; every other block is as it was.
    pub(crate) fn assert_moved(&self, before: &[u8], table: &[u32], blocks: &[(u32, u32)]) {
        let len = self.layout.kv.block_bytes();
        for block in 0..self.layout.kv.num_blocks {
            let found = self.block_of(&self.target, block);
            match blocks.iter().find(|(_, physical)| *physical == block) {
                Some((logical, _)) => {
                    let sent = self.block_of(&self.source, table[*logical as usize]);
                    assert!(found == sent, "block {block} differs from what was sent");
                }
                None => {
                    let at = block as usize * len;
                    assert!(found == before[at..at + len], "block {block} was not granted");
                }
            }
        }
    }
}
