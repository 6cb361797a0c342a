//! The simulated router: what it knows, and the trait that policies implement.

use estafette_kv_index::{KvIndex, WorkerSlot};
use estafette_routing::{Choice, NoChoice, Request};
use estafette_types::{BlockHash, KvEvent, LoadRecord, Role};
use std::collections::BTreeMap;

/// What a client allows an answer to be; the router knows no more.
const MAX_TOKENS: u32 = 16_384;

/// A request, as far as a router knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Names the request.
    pub turn: u32,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of a block.
    pub block_size: u32,
}

impl Ask {
    /// Tokens to compute for one who holds the first `cached_blocks`; never 0.
    pub fn uncached(&self, cached_blocks: u32) -> u32 {
        self.request().uncached_tokens(cached_blocks)
    }

    /// As the production score takes it.
    pub fn request(&self) -> Request {
        Request {
            prompt_tokens: self.prompt_tokens,
            block_size: self.block_size,
            max_tokens: MAX_TOKENS,
            session: None,
        }
    }
}

/// What this router has sent to a worker and has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Booked {
    /// Legs.
    pub requests: u64,
    /// Prompt tokens to compute, until the first token.
    pub prefill_tokens: u64,
    /// Tokens of the prompts, until the end.
    pub context_tokens: u64,
}

/// A worker, as a router sees it when a request comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Its slot.
    pub slot: u32,
    /// Its pool.
    pub role: Role,
    /// Its newest load record, as old as the stream makes it.
    pub load: LoadRecord,
    /// Leading blocks of the prompt that it holds, as far as the router has heard.
    pub cached_blocks: u32,
    /// What this router has under way there.
    pub booked: Booked,
    /// Sequences that it runs at once.
    pub max_num_seqs: u32,
    /// Sequences that it lets wait.
    pub max_waiting: u32,
}

/// One leg of a request, as policies are told about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegView {
    /// Names the request.
    pub turn: u32,
    /// Where it runs.
    pub slot: u32,
}

/// A routing policy.
pub trait RouterPolicy: std::fmt::Debug {
    /// Chooses among the workers that are known and have room; prefill workers first, by slot.
    ///
    /// # Errors
    /// When it wants none of them.
    fn choose(&mut self, ask: &Ask, seats: &[Seat]) -> Result<Choice, NoChoice>;

    /// A leg was sent to one who holds the first `cached_blocks`; `computes` when the prompt is computed there.
    fn dispatched(&mut self, _leg: LegView, _ask: &Ask, _cached_blocks: u32, _computes: bool) {}

    /// A leg's first token came.
    fn first_token(&mut self, _leg: LegView) {}

    /// A leg has ended, in any way.
    fn ended(&mut self, _leg: LegView) {}

    /// A worker's record came.
    fn heard(&mut self, _slot: u32, _load: &LoadRecord) {}
}

/// What the router keeps of a worker.
#[derive(Debug)]
struct Known {
    role: Role,
    load: LoadRecord,
    booked: Booked,
    /// The next update's number.
    expected: u64,
    synced: bool,
}

/// Tokens of a leg, to take them back.
#[derive(Clone, Copy, Debug)]
struct Sent {
    prefill_tokens: u64,
    context_tokens: u64,
}

/// An update of a worker's state on its way.
#[derive(Debug)]
pub(crate) struct StateUpdate {
    pub(crate) number: u64,
    pub(crate) load: LoadRecord,
    pub(crate) events: Vec<KvEvent>,
    pub(crate) snapshot: bool,
}

/// The router.
#[derive(Debug)]
pub(crate) struct Router {
    policy: Box<dyn RouterPolicy>,
    index: KvIndex,
    workers: Vec<Known>,
    sent: BTreeMap<(u32, u32), Sent>,
    block_size: u32,
    max_num_seqs: u32,
    max_waiting: u32,
}

/// A choice, and what is expected of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Routed {
    pub(crate) choice: Choice,
    /// Leading blocks that the one who computes holds, as the router saw it.
    pub(crate) cached_blocks: u32,
}

impl Router {
    pub(crate) fn new(
        policy: Box<dyn RouterPolicy>,
        workers: impl Iterator<Item = (Role, LoadRecord)>,
        settings: &crate::settings::ClusterSettings,
    ) -> Self {
        let known = |(role, load)| Known {
            role,
            load,
            booked: Booked::default(),
            expected: 0,
            synced: true,
        };
        Self {
            policy,
            index: KvIndex::new(),
            workers: workers.map(known).collect(),
            sent: BTreeMap::new(),
            block_size: settings.block_size,
            max_num_seqs: settings.max_num_seqs,
            max_waiting: settings.max_waiting,
        }
    }

    /// Chooses for a prompt and books its legs.
    pub(crate) fn route(
        &mut self,
        turn: u32,
        prompt_tokens: u32,
        hashes: &[BlockHash],
    ) -> Result<Routed, NoChoice> {
        let ask = Ask { turn, prompt_tokens, block_size: self.block_size };
        let seats = self.seats(hashes);
        if !seats.iter().any(|seat| seat.role == Role::Decode) {
            return Err(NoChoice::Saturated);
        }
        let choice = self.policy.choose(&ask, &seats)?;
        let cached =
            |slot| seats.iter().find(|seat| seat.slot == slot).map_or(0, |seat| seat.cached_blocks);
        let computes = match choice {
            Choice::Aggregated { decode } => decode,
            Choice::Disaggregated { prefill, decode } => {
                self.book(LegView { turn, slot: decode }, &ask, cached(decode), false);
                prefill
            }
        };
        let cached_blocks = cached(computes);
        self.book(LegView { turn, slot: computes }, &ask, cached_blocks, true);
        Ok(Routed { choice, cached_blocks })
    }

    fn seats(&self, hashes: &[BlockHash]) -> Vec<Seat> {
        let matches = self.index.matches(hashes);
        let seats = self.workers.iter().enumerate().filter(|(_, known)| known.synced).map(
            |(slot, known)| Seat {
                slot: slot as u32,
                role: known.role,
                load: known.load,
                cached_blocks: matches.blocks(WorkerSlot(slot as u32)),
                booked: known.booked,
                max_num_seqs: self.max_num_seqs,
                max_waiting: self.max_waiting,
            },
        );
        seats.filter(has_place).collect()
    }

    fn book(&mut self, leg: LegView, ask: &Ask, cached_blocks: u32, computes: bool) {
        let prefill_tokens = if computes { u64::from(ask.uncached(cached_blocks)) } else { 0 };
        let sent = Sent { prefill_tokens, context_tokens: u64::from(ask.prompt_tokens) };
        let booked = &mut self.workers[leg.slot as usize].booked;
        booked.requests += 1;
        booked.prefill_tokens += sent.prefill_tokens;
        booked.context_tokens += sent.context_tokens;
        self.sent.insert((leg.turn, leg.slot), sent);
        self.policy.dispatched(leg, ask, cached_blocks, computes);
    }

    pub(crate) fn first_token(&mut self, leg: LegView) {
        if let Some(sent) = self.sent.get_mut(&(leg.turn, leg.slot)) {
            let tokens = std::mem::take(&mut sent.prefill_tokens);
            self.workers[leg.slot as usize].booked.prefill_tokens -= tokens;
            self.policy.first_token(leg);
        }
    }

    pub(crate) fn ended(&mut self, leg: LegView) {
        if let Some(sent) = self.sent.remove(&(leg.turn, leg.slot)) {
            let booked = &mut self.workers[leg.slot as usize].booked;
            booked.requests -= 1;
            booked.prefill_tokens -= sent.prefill_tokens;
            booked.context_tokens -= sent.context_tokens;
            self.policy.ended(leg);
        }
    }

    /// Takes an update in. True: one is missing, and a snapshot must be asked for.
    pub(crate) fn heard(&mut self, slot: u32, update: &StateUpdate) -> bool {
        let known = &mut self.workers[slot as usize];
        if !update.snapshot && (!known.synced || update.number != known.expected) {
            let newly = known.synced;
            known.synced = false;
            return newly;
        }
        known.expected = update.number + 1;
        known.synced = true;
        known.load = update.load;
        if update.snapshot {
            self.index.clear(WorkerSlot(slot));
        }
        self.index.apply(WorkerSlot(slot), &update.events);
        self.policy.heard(slot, &update.load);
        false
    }

    /// What is booked although nothing runs.
    pub(crate) fn leftover(&self) -> Option<String> {
        let booked = self.workers.iter().any(|known| known.booked != Booked::default());
        booked.then(|| format!("{:?}", self.sent))
    }
}

/// Its queue is not full, with what was sent and is in no record yet.
fn has_place(seat: &Seat) -> bool {
    let load = &seat.load;
    let on_the_way = seat.booked.requests.saturating_sub(load.sequences());
    load.waiting_sequences + on_the_way < u64::from(seat.max_waiting)
}

#[cfg(test)]
mod tests;
