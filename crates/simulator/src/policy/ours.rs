//! Ours: the production router's fleet, fed with what simulated workers say. It learns step times from load records; the
//! simulator's step-time model stays unknown to it.

use crate::router::{Ask, LegView, RouterPolicy, Seat};
use crate::settings::ClusterSettings;
use estafette_routing::{Choice, Fleet, NoChoice, Receipt, RoutingConfig, WorkerTraits};
use estafette_types::{LoadRecord, SplitMix64};
use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct Ours {
    fleet: Fleet,
    /// Of legs that have not ended, by turn and slot.
    out: BTreeMap<(u32, u32), Receipt>,
    rng: SplitMix64,
}

impl Ours {
    pub(super) fn new(settings: &ClusterSettings, deflects: bool, rng: SplitMix64) -> Self {
        let mut config = RoutingConfig::default();
        if !deflects {
            (config.deflection_margin_seconds, config.append_tokens) = (f64::INFINITY, 0);
        }
        let mut fleet = Fleet::new(config);
        for (slot, role) in (0..).zip(settings.roles()) {
            let traits = WorkerTraits {
                role,
                max_num_seqs: settings.max_num_seqs,
                max_waiting: settings.max_waiting,
                max_num_batched_tokens: settings.chunk(role),
                takes_kv: true,
                name_hash: u64::from(slot),
            };
            fleet.join(slot, traits);
            let total_blocks = u64::from(settings.kv_blocks);
            let idle =
                LoadRecord { free_blocks: total_blocks, total_blocks, ..LoadRecord::default() };
            fleet.heard(slot, &idle, false);
        }
        Self { fleet, out: BTreeMap::new(), rng }
    }
}

fn seat(seats: &[Seat], slot: u32) -> Option<&Seat> {
    let found = seats.binary_search_by_key(&slot, |seat| seat.slot);
    found.ok().map(|i| &seats[i])
}

impl RouterPolicy for Ours {
    fn choose(&mut self, ask: &Ask, seats: &[Seat]) -> Result<Choice, NoChoice> {
        let cached = |slot| seat(seats, slot).map_or(0, |seat| seat.cached_blocks);
        let allowed = |slot| seat(seats, slot).is_some();
        let decision = self.fleet.choose(&ask.request(), cached, allowed, &mut self.rng)?;
        Ok(decision.choice)
    }

    fn dispatched(&mut self, leg: LegView, ask: &Ask, cached_blocks: u32, computes: bool) {
        let receipt = self.fleet.book(leg.slot, &ask.request(), cached_blocks, computes);
        self.out.insert((leg.turn, leg.slot), receipt);
    }

    fn first_token(&mut self, leg: LegView) {
        if let Some(receipt) = self.out.get(&(leg.turn, leg.slot)) {
            self.fleet.taken_in(receipt);
        }
    }

    fn ended(&mut self, leg: LegView) {
        if let Some(receipt) = self.out.remove(&(leg.turn, leg.slot)) {
            self.fleet.finished(receipt);
        }
    }

    fn heard(&mut self, slot: u32, load: &LoadRecord) {
        self.fleet.heard(slot, load, false);
    }
}
