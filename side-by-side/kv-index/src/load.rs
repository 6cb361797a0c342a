//! What is indexed and what is asked: chats that share a system prompt, each held by one to three workers.

use estafette_types::SplitMix64;
use kv_index::{ContentHash, SequenceHash, chain_prefix_hash};

/// Blocks of the system prompt, which every worker holds.
pub const SYSTEM: usize = 12;
/// Most blocks of one event: a turn of a chat.
const TURN: usize = 16;
/// Prompts of each length.
const PROMPTS: usize = 2_000;
/// Chats longer than the longest prompt: one in this many.
const LONG_EVERY: usize = 100;

/// A block by its own content and by all that came up to its end, as the peers name it.
#[derive(Clone, Copy)]
pub struct Block {
    pub content: u64,
    pub prefix: u64,
}

/// Who holds how many leading blocks of a chat.
#[derive(Clone, Copy)]
pub struct Holding {
    pub worker: u32,
    pub blocks: usize,
}

pub struct Chat {
    /// The system prompt's first.
    pub blocks: Vec<Block>,
    pub holdings: Vec<Holding>,
}

/// One event, as a range of a chat's blocks.
#[derive(Clone, Copy)]
pub struct Event {
    pub worker: u32,
    pub chat: usize,
    pub from: usize,
    pub to: usize,
    pub stored: bool,
}

impl Event {
    pub fn blocks(self) -> usize {
        self.to - self.from
    }
}

pub struct Prompt {
    pub blocks: Vec<Block>,
    /// With how many leading blocks are the chat's; `None` when not even the system prompt is.
    pub chat: Option<(usize, usize)>,
}

pub struct Load {
    pub workers: u32,
    pub chats: Vec<Chat>,
    /// Fills an empty index, turn by turn, all chats mixed.
    pub build: Vec<Event>,
    /// Takes the tails of one holding in ten away, last block first, and stores them again.
    pub churn: Vec<Event>,
    /// Takes one block out of the middle of one holding in twenty.
    pub holes: Vec<Event>,
}

impl Load {
    pub fn new(workers: u32, chats: usize, rng: &mut SplitMix64) -> Self {
        let system = extend(&[], SYSTEM, rng);
        let chats: Vec<_> = (0..chats).map(|i| chat(&system, workers, i, rng)).collect();
        let build = build(workers, &chats, rng);
        let all: Vec<_> = holdings(&chats).collect();
        let (mut taken, mut holes) = (Vec::new(), Vec::new());
        for &(chat, Holding { worker, blocks }) in &all {
            let tail = (blocks - SYSTEM).min(2 * TURN);
            if rng.below(10) == 0 {
                let (from, to) = (blocks - tail, blocks);
                taken.push(Event { worker, chat, from, to, stored: false });
            } else if rng.below(20) == 0 {
                let from = SYSTEM + rng.below((blocks - SYSTEM) as u64) as usize;
                holes.push(Event { worker, chat, from, to: from + 1, stored: false });
            }
        }
        shuffle(&mut taken, rng);
        let again = taken.iter().map(|&event| Event { stored: true, ..event });
        let churn = taken.iter().copied().chain(again).collect();
        Self { workers, chats, build, churn, holes }
    }

    /// Entries of (block, worker).
    pub fn entries(&self) -> usize {
        self.build.iter().map(|event| event.blocks()).sum()
    }

    /// Distinct blocks that anybody holds.
    pub fn distinct(&self) -> usize {
        let longest = |chat: &Chat| chat.holdings.iter().map(|h| h.blocks - SYSTEM).max();
        SYSTEM + self.chats.iter().filter_map(longest).sum::<usize>()
    }

    /// Prompts of `length` blocks: known up to any depth, one in ten not at all.
    pub fn prompts(&self, length: usize, rng: &mut SplitMix64) -> Vec<Prompt> {
        let fits = |i: &usize| self.chats[*i].blocks.len() >= length;
        let long: Vec<_> = (0..self.chats.len()).filter(fits).collect();
        let mut prompt = || {
            if rng.below(10) == 0 {
                return Prompt { blocks: extend(&[], length, rng), chat: None };
            }
            let chat = long[rng.below(long.len() as u64) as usize];
            let known = SYSTEM + rng.below((length - SYSTEM) as u64 + 1) as usize;
            let blocks = extend(&self.chats[chat].blocks[..known], length - known, rng);
            Prompt { blocks, chat: Some((chat, known)) }
        };
        (0..PROMPTS).map(|_| prompt()).collect()
    }

    /// The right answer, by worker, while there are `holes`.
    pub fn answer(&self, prompt: &Prompt, holes: &[Event]) -> Vec<(u32, u32)> {
        let Some((chat, known)) = prompt.chat else { return Vec::new() };
        let mut blocks = vec![SYSTEM as u32; self.workers as usize];
        for holding in &self.chats[chat].holdings {
            blocks[holding.worker as usize] = holding.blocks.min(known) as u32;
        }
        for hole in holes.iter().filter(|hole| hole.chat == chat) {
            let held = &mut blocks[hole.worker as usize];
            *held = (*held).min(hole.from as u32);
        }
        (0..self.workers).zip(blocks).collect()
    }
}

fn holdings(chats: &[Chat]) -> impl Iterator<Item = (usize, Holding)> + '_ {
    chats.iter().enumerate().flat_map(|(i, chat)| chat.holdings.iter().map(move |&h| (i, h)))
}

/// `start` and `more` fresh blocks.
fn extend(start: &[Block], more: usize, rng: &mut SplitMix64) -> Vec<Block> {
    let mut blocks = start.to_vec();
    for _ in 0..more {
        let content = rng.next_u64();
        let prefix = blocks.last().map_or(content, |before: &Block| {
            chain_prefix_hash(SequenceHash(before.prefix), ContentHash(content)).0
        });
        blocks.push(Block { content, prefix });
    }
    blocks
}

fn chat(system: &[Block], workers: u32, number: usize, rng: &mut SplitMix64) -> Chat {
    let own = if number % LONG_EVERY == 0 { 1_100 } else { 8 + rng.below(193) as usize };
    let blocks = extend(system, own, rng);
    let mut holdings: Vec<Holding> = Vec::new();
    for i in 0..=rng.below(3) {
        let worker = rng.below(workers.into()) as u32;
        // The first went on to the end, the others left the chat on the way.
        let kept = if i == 0 { own } else { 1 + rng.below(own as u64) as usize };
        if holdings.iter().all(|holding| holding.worker != worker) {
            holdings.push(Holding { worker, blocks: SYSTEM + kept });
        }
    }
    Chat { blocks, holdings }
}

fn build(workers: u32, chats: &[Chat], rng: &mut SplitMix64) -> Vec<Event> {
    let system = |worker| Event { worker, chat: 0, from: 0, to: SYSTEM, stored: true };
    let mut events: Vec<_> = (0..workers).map(system).collect();
    let mut open: Vec<_> = holdings(chats).map(|(chat, h)| (chat, h, SYSTEM)).collect();
    while !open.is_empty() {
        let i = rng.below(open.len() as u64) as usize;
        let (chat, Holding { worker, blocks }, from) = open[i];
        let to = blocks.min(from + 1 + rng.below(TURN as u64) as usize);
        events.push(Event { worker, chat, from, to, stored: true });
        open[i].2 = to;
        if to == blocks {
            open.swap_remove(i);
        }
    }
    events
}

fn shuffle<T>(items: &mut [T], rng: &mut SplitMix64) {
    for i in (1..items.len()).rev() {
        items.swap(i, rng.below(i as u64 + 1) as usize);
    }
}
