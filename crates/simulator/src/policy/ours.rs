//! Ours: the production score with the production bookkeeping. It learns step times from load records; the simulator's
//! step-time model stays unknown to it.

use crate::router::{Ask, LegView, RouterPolicy, Seat};
use crate::settings::ClusterSettings;
use estafette_routing::{
    Booking, Candidate, Choice, NoChoice, Receipt, Receipts, Request, RoutingConfig, StepModel,
    choose,
};
use estafette_types::{LoadRecord, Role, SplitMix64};
use std::collections::BTreeMap;

/// What a client allows an answer to be; the router knows no more.
const MAX_TOKENS: u32 = 16_384;

#[derive(Debug)]
pub(super) struct Ours {
    config: RoutingConfig,
    receipts: Receipts,
    /// Of legs that have not ended, by turn and slot.
    out: BTreeMap<(u32, u32), Receipt>,
    steps: Vec<StepModel>,
    rng: SplitMix64,
}

impl Ours {
    pub(super) fn new(settings: &ClusterSettings, rng: SplitMix64) -> Self {
        let chunk_tokens = settings.chunk(settings.prompt_role());
        let workers = settings.roles().count();
        Self {
            config: RoutingConfig { chunk_tokens, ..RoutingConfig::default() },
            receipts: Receipts::new(),
            out: BTreeMap::new(),
            steps: vec![StepModel::default(); workers],
            rng,
        }
    }

    fn candidate(&self, seat: &Seat) -> Candidate {
        Candidate {
            slot: seat.slot,
            load: seat.load,
            draining: false,
            cached_blocks: seat.cached_blocks,
            max_num_seqs: seat.max_num_seqs,
            max_waiting: seat.max_waiting,
            pending: self.receipts.pending(seat.slot),
            step: self.steps[seat.slot as usize].cost(),
        }
    }
}

impl RouterPolicy for Ours {
    fn choose(&mut self, ask: &Ask, seats: &[Seat]) -> Result<Choice, NoChoice> {
        let request = Request {
            prompt_tokens: ask.prompt_tokens,
            block_size: ask.block_size,
            max_tokens: MAX_TOKENS,
        };
        let of = |role| -> Vec<Candidate> {
            seats.iter().filter(|seat| seat.role == role).map(|seat| self.candidate(seat)).collect()
        };
        let (prefill, decode) = (of(Role::Prefill), of(Role::Decode));
        choose(&request, &prefill, &decode, &self.config, &mut self.rng)
            .map(|decision| decision.choice)
    }

    fn dispatched(&mut self, leg: LegView, ask: &Ask, uncached: u32) {
        let booking = Booking { prefill_tokens: uncached, context_tokens: ask.prompt_tokens };
        let receipt = self.receipts.dispatched(leg.slot, booking);
        self.out.insert((leg.turn, leg.slot), receipt);
    }

    fn first_token(&mut self, leg: LegView) {
        if let Some(receipt) = self.out.get(&(leg.turn, leg.slot)) {
            self.receipts.taken_in(receipt);
        }
    }

    fn ended(&mut self, leg: LegView) {
        if let Some(receipt) = self.out.remove(&(leg.turn, leg.slot)) {
            self.receipts.finished(receipt);
        }
    }

    fn heard(&mut self, slot: u32, load: &LoadRecord) {
        self.steps[slot as usize].observe(load);
        self.receipts.on_load(slot, load);
    }
}
