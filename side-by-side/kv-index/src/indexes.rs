//! The indexes, each used as its own router uses it.

use crate::load::{Block, Chat, Event, Load};
use dynamo_kv_router::indexer::positional::SearchMode;
use dynamo_kv_router::indexer::{SyncIndexer, ThreadPoolIndexer};
use dynamo_kv_router::protocols::{
    ExternalSequenceBlockHash, KvCacheEvent, KvCacheEventData, KvCacheRemoveData, KvCacheStoreData,
    KvCacheStoredBlockData, LocalBlockHash, RouterEvent,
};
use dynamo_kv_router::{ConcurrentRadixTreeCompressed, PositionalIndexer};
use estafette_kv_index::{KvIndex, Matches, WorkerSlot};
use estafette_types::{BlockHash, KvEvent};
use kv_index::{ChainBlockMap, ContentHash, SequenceHash, ShardedChainIndex, StoredBlock};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Workers that one shard of `kv-index` takes.
const SHARD_WORKERS: usize = 1024;
/// What Dynamo's router sets.
const JUMP: usize = 32;
/// Events after which Dynamo's queues are drained, so that they neither grow nor count as memory.
const DRAIN_EVERY: usize = 512;
/// For logging only.
const BLOCK_SIZE: u32 = 16;

/// An index, with events and prompts in its own types, made before the clock starts.
pub trait Index: Sync {
    type Events: Send;
    type Prompt: Sync;
    type Found;

    fn events(&self, load: &Load, events: &[Event]) -> Self::Events;
    fn prompt(&self, blocks: &[Block]) -> Self::Prompt;
    /// Returns when all of them can be seen.
    fn apply(&self, events: Self::Events);
    fn find(&self, prompt: &Self::Prompt) -> Self::Found;
    /// By worker.
    fn sorted(&self, found: Self::Found) -> Vec<(u32, u32)>;
}

pub struct Ours(KvIndex);

impl Ours {
    pub fn new(_: u32) -> Self {
        Self(KvIndex::new())
    }
}

/// The index reads the low half.
fn block_hash(block: &Block) -> BlockHash {
    BlockHash(u128::from(block.content) << 64 | u128::from(block.prefix))
}

impl Index for Ours {
    type Events = Vec<(WorkerSlot, Vec<KvEvent>)>;
    type Prompt = Vec<BlockHash>;
    type Found = Matches;

    fn events(&self, load: &Load, events: &[Event]) -> Self::Events {
        let convert = |event: &Event| {
            let kind = if event.stored { KvEvent::Stored } else { KvEvent::Removed };
            let hashes = in_order(load, *event).map(|block| kind(block_hash(block)));
            (WorkerSlot(event.worker), hashes.collect())
        };
        events.iter().map(convert).collect()
    }

    fn prompt(&self, blocks: &[Block]) -> Self::Prompt {
        blocks.iter().map(block_hash).collect()
    }

    fn apply(&self, events: Self::Events) {
        for (slot, events) in events {
            self.0.apply(slot, &events);
        }
    }

    fn find(&self, prompt: &Self::Prompt) -> Matches {
        self.0.matches(prompt)
    }

    fn sorted(&self, found: Matches) -> Vec<(u32, u32)> {
        found.iter().map(|(slot, blocks)| (slot.0, blocks)).collect()
    }
}

/// `kv-index`: one lane applies all events, with the lane's map for each worker.
pub struct Chain {
    index: ShardedChainIndex,
    /// The id of each worker in the index, and its lane's map.
    lanes: Vec<(u32, Mutex<ChainBlockMap>)>,
    worker_of: BTreeMap<u32, u32>,
}

pub struct ChainEvent {
    worker: u32,
    parent: Option<SequenceHash>,
    stored: Vec<StoredBlock>,
    removed: Vec<SequenceHash>,
}

impl Chain {
    pub fn new(workers: u32) -> Self {
        let shards = (workers as usize).div_ceil(SHARD_WORKERS);
        let index = ShardedChainIndex::new(shards, (workers as usize).div_ceil(shards));
        let intern = |worker: u32| index.intern_worker(&worker.to_string()).expect("a free slot");
        let ids: Vec<_> = (0..workers).map(intern).collect();
        let worker_of = ids.iter().copied().zip(0..).collect();
        let lanes = ids.into_iter().map(|id| (id, Mutex::default())).collect();
        Self { index, lanes, worker_of }
    }
}

impl Index for Chain {
    type Events = Vec<ChainEvent>;
    type Prompt = Vec<ContentHash>;
    type Found = Vec<(u32, u32)>;

    fn events(&self, load: &Load, events: &[Event]) -> Self::Events {
        let convert = |event: &Event| {
            let chat = &load.chats[event.chat];
            let (mut stored, mut removed) = (Vec::new(), Vec::new());
            for block in in_order(load, *event) {
                let seq_hash = SequenceHash(block.prefix);
                if event.stored {
                    stored.push(StoredBlock { seq_hash, content_hash: ContentHash(block.content) });
                } else {
                    removed.push(seq_hash);
                }
            }
            let parent = parent(chat, *event).map(SequenceHash);
            ChainEvent { worker: event.worker, parent, stored, removed }
        };
        events.iter().map(convert).collect()
    }

    fn prompt(&self, blocks: &[Block]) -> Self::Prompt {
        blocks.iter().map(|block| ContentHash(block.content)).collect()
    }

    fn apply(&self, events: Self::Events) {
        for event in events {
            let (id, map) = &self.lanes[event.worker as usize];
            let mut map = map.lock().expect("no panic");
            let applied = self.index.apply_stored(*id, &event.stored, event.parent, &mut map);
            applied.expect("a known parent");
            if !event.removed.is_empty() {
                self.index.apply_removed(*id, &event.removed, &mut map);
            }
        }
    }

    /// Into a list and not into its hash map: its fastest way.
    fn find(&self, prompt: &Self::Prompt) -> Self::Found {
        let mut found = Vec::new();
        let report = |worker, blocks| found.push((worker, blocks));
        self.index.score_into(prompt, |hash| hash.0, false, report);
        found
    }

    fn sorted(&self, found: Self::Found) -> Vec<(u32, u32)> {
        let mut found: Vec<_> = found.iter().map(|(id, n)| (self.worker_of[id], *n)).collect();
        found.sort_unstable();
        found
    }
}

/// Dynamo's: events through its pool of writing threads.
pub struct Dynamo<T: SyncIndexer> {
    pool: ThreadPoolIndexer<T>,
    runtime: tokio::runtime::Runtime,
}

impl<T: SyncIndexer> Dynamo<T> {
    fn with(backend: T) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        Self { pool: ThreadPoolIndexer::new(backend, 1, BLOCK_SIZE), runtime }
    }

    fn drain(&self) {
        self.runtime.block_on(self.pool.flush_and_wait()).expect("a thread that goes on");
    }
}

/// The one that Dynamo's router takes by default.
pub fn dynamo_radix(_: u32) -> Dynamo<ConcurrentRadixTreeCompressed> {
    Dynamo::with(ConcurrentRadixTreeCompressed::new())
}

/// The one that jumps over blocks.
pub fn dynamo_positional(_: u32) -> Dynamo<PositionalIndexer> {
    Dynamo::with(PositionalIndexer::new_with_mode(JUMP, SearchMode::Strided))
}

impl<T: SyncIndexer> Index for Dynamo<T> {
    type Events = Vec<RouterEvent>;
    type Prompt = Vec<LocalBlockHash>;
    type Found = dynamo_kv_router::OverlapScores;

    fn events(&self, load: &Load, events: &[Event]) -> Self::Events {
        let convert = |(id, event): (usize, &Event)| {
            let data = if event.stored { stored(load, *event) } else { removed(load, *event) };
            let event_id = id as u64;
            RouterEvent::new(event.worker.into(), KvCacheEvent { event_id, data, dp_rank: 0 })
        };
        events.iter().enumerate().map(convert).collect()
    }

    fn prompt(&self, blocks: &[Block]) -> Self::Prompt {
        blocks.iter().map(|block| LocalBlockHash(block.content)).collect()
    }

    fn apply(&self, events: Self::Events) {
        for (i, event) in events.into_iter().enumerate() {
            self.pool.enqueue_event(event).expect("a thread that goes on");
            if i % DRAIN_EVERY == DRAIN_EVERY - 1 {
                self.drain();
            }
        }
        self.drain();
    }

    fn find(&self, prompt: &Self::Prompt) -> Self::Found {
        self.pool.backend().find_matches(prompt, false)
    }

    fn sorted(&self, found: Self::Found) -> Vec<(u32, u32)> {
        let pairs = found.scores.into_iter().map(|(w, blocks)| (w.worker_id as u32, blocks));
        let mut found: Vec<_> = pairs.collect();
        found.sort_unstable();
        found
    }
}

fn stored(load: &Load, event: Event) -> KvCacheEventData {
    let block = |block: &Block| KvCacheStoredBlockData {
        block_hash: ExternalSequenceBlockHash(block.prefix),
        tokens_hash: LocalBlockHash(block.content),
        mm_extra_info: None,
    };
    KvCacheEventData::Stored(KvCacheStoreData {
        parent_hash: parent(&load.chats[event.chat], event).map(ExternalSequenceBlockHash),
        start_position: Some(event.from as u32),
        blocks: in_order(load, event).map(block).collect(),
    })
}

fn removed(load: &Load, event: Event) -> KvCacheEventData {
    let hash = |block: &Block| ExternalSequenceBlockHash(block.prefix);
    KvCacheEventData::Removed(KvCacheRemoveData {
        block_hashes: in_order(load, event).map(hash).collect(),
    })
}

fn parent(chat: &Chat, event: Event) -> Option<u64> {
    event.from.checked_sub(1).map(|before| chat.blocks[before].prefix)
}

/// An engine stores from the first block on and evicts from the last one back.
fn in_order(load: &Load, event: Event) -> impl Iterator<Item = &Block> {
    let blocks = &load.chats[event.chat].blocks[event.from..event.to];
    let last = blocks.len() - 1;
    (0..blocks.len()).map(move |i| &blocks[if event.stored { i } else { last - i }])
}
