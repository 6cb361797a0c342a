//! The tables behind the lock.

use super::{Excluded, Pool, WorkerKey};
use crate::worker_client::channel;
use estafette_kv_index::{Matches, WorkerSlot};
use estafette_proto::v1;
use estafette_routing::{
    Booking, Candidate, Choice, NoChoice, Receipt, Receipts, Request, RoutingConfig, StepCost,
    StepModel, choose,
};
use estafette_types::{Incarnation, LoadRecord, Role, SplitMix64, WorkerId};
use tonic::Status;
use tonic::transport::Channel;

/// Names and addresses longer than this are no names and addresses.
const TEXT_BYTES_MAX: usize = 1024;

/// A worker that has joined.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) key: WorkerKey,
    pub(super) role: Role,
    pub(super) channel: Channel,
    pub(super) kv: Option<v1::KvEndpoint>,
    pub(super) max_num_seqs: u32,
    pub(super) max_waiting: u32,
    pub(super) load: LoadRecord,
    pub(super) draining: bool,
    /// Its state is known: it may be chosen.
    pub(super) synced: bool,
    /// Its step-time curve, learned from its records.
    step: StepModel,
    pool: Pool,
}

impl Member {
    pub(super) fn can_be_chosen(&self) -> bool {
        self.synced && !self.draining
    }
}

/// Where a chosen worker is.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) worker: WorkerKey,
    pub(super) channel: Channel,
    pub(super) kv: Option<v1::KvEndpoint>,
}

/// A slot.
#[derive(Debug)]
enum Place {
    Free,
    Taken(Box<Member>),
    /// Its worker has left or was replaced; until the last of its tasks has ended the index may still name it.
    Leaving(WorkerKey),
}

impl Place {
    fn member(&self) -> Option<&Member> {
        match self {
            Self::Taken(member) => Some(member),
            Self::Free | Self::Leaving(_) => None,
        }
    }
}

/// Who is there and what they have to do.
#[derive(Debug)]
pub(super) struct Registry {
    /// By slot.
    places: Vec<Place>,
    pub(super) receipts: Receipts,
    config: RoutingConfig,
    pub(super) rng: SplitMix64,
}

impl Registry {
    pub(super) fn new(rng: SplitMix64) -> Self {
        Self {
            places: Vec::new(),
            receipts: Receipts::default(),
            config: RoutingConfig::default(),
            rng,
        }
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.places.iter().filter_map(Place::member)
    }

    fn at(&self, slot: u32) -> Option<&Member> {
        self.places.get(slot as usize)?.member()
    }

    /// The member that `worker` names, unless it has left or was replaced.
    pub(super) fn member(&self, worker: &WorkerKey) -> Option<&Member> {
        self.at(worker.slot).filter(|member| member.key == *worker)
    }

    fn member_mut(&mut self, worker: &WorkerKey) -> Option<&mut Member> {
        match self.places.get_mut(worker.slot as usize)? {
            Place::Taken(member) if member.key == *worker => Some(member),
            _ => None,
        }
    }

    pub(super) fn pool(&self) -> Option<Pool> {
        let mut pool = self.members().next()?.pool.clone();
        let lengths = self.members().map(|member| member.pool.max_model_len);
        // Every worker must be able to hold a sequence whole.
        pool.max_model_len = lengths.min().unwrap_or(pool.max_model_len);
        Some(pool)
    }

    pub(super) fn join(&mut self, info: v1::WorkerInfo) -> Result<WorkerKey, Status> {
        let role = Role::try_from(info.role())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        check_texts(&info)?;
        if role == Role::Decode && info.kv.is_none() && self.has_prefill() {
            tracing::warn!(worker = info.worker_id, "it takes no KV: it prefills for itself");
        }
        let channel = channel(&info.address).map_err(|error| {
            Status::invalid_argument(format!("`{}` is no address: {error}", info.address))
        })?;
        let id = WorkerId(info.worker_id);
        let wire = info.pool.unwrap_or_default();
        let pool = Pool {
            block_size: wire.block_size,
            numerics_id: wire.numerics_id,
            max_model_len: wire.max_model_len,
        };
        // A restarted worker replaces its predecessor at once.
        let old = self.members().find(|member| member.key.id == id).map(|m| m.key.clone());
        if let Some(old) = old {
            self.leave(&old);
        }
        self.check_pool(&pool)?;
        let slot = self.free_slot();
        let key = WorkerKey { slot, id, incarnation: Incarnation(info.incarnation) };
        let step = StepModel::new(self.step_prior(role));
        self.places[slot as usize] = Place::Taken(Box::new(Member {
            key: key.clone(),
            role,
            channel,
            kv: info.kv,
            max_num_seqs: info.max_num_seqs,
            max_waiting: info.max_waiting,
            load: LoadRecord::default(),
            draining: false,
            synced: false,
            step,
            pool,
        }));
        Ok(key)
    }

    fn has_prefill(&self) -> bool {
        self.members().any(|member| member.role == Role::Prefill)
    }

    /// Workers of one cluster must be interchangeable.
    fn check_pool(&self, pool: &Pool) -> Result<(), Status> {
        let Some(ours) = self.pool() else { return Ok(()) };
        let differs = [
            ("block_size", ours.block_size != pool.block_size),
            ("numerics_id", ours.numerics_id != pool.numerics_id),
        ];
        match differs.iter().find(|(_, differs)| *differs) {
            None => Ok(()),
            Some((field, _)) => Err(Status::failed_precondition(format!(
                "its `{field}` differs from that of the workers that are there: {ours:?} here, {pool:?} there"
            ))),
        }
    }

    fn free_slot(&mut self) -> u32 {
        let is_free = |place: &Place| matches!(place, Place::Free);
        let free = self.places.iter().position(is_free).unwrap_or_else(|| {
            self.places.push(Place::Free);
            self.places.len() - 1
        });
        free as u32
    }

    /// Takes a worker out. Its slot stays its own until [`Registry::free`].
    pub(super) fn leave(&mut self, worker: &WorkerKey) {
        if self.member(worker).is_some() {
            self.receipts.worker_gone(worker.slot);
            self.places[worker.slot as usize] = Place::Leaving(worker.clone());
        }
    }

    /// Nothing will name a worker that has left any more: its slot may be given to others.
    pub(super) fn free(&mut self, worker: &WorkerKey) {
        if let Some(place) = self.places.get_mut(worker.slot as usize)
            && matches!(place, Place::Leaving(key) if key == worker)
        {
            *place = Place::Free;
        }
    }

    pub(super) fn unsynced(&mut self, worker: &WorkerKey) {
        if let Some(member) = self.member_mut(worker) {
            member.synced = false;
        }
    }

    /// What the worker says of itself, its blocks apart. Whether it starts or stops to be one that can be chosen.
    pub(super) fn heard(&mut self, worker: &WorkerKey, load: LoadRecord, draining: bool) -> bool {
        let Some(member) = self.member_mut(worker) else { return false };
        let before = member.can_be_chosen();
        (member.load, member.draining, member.synced) = (load, draining, true);
        member.step.observe(&load);
        let changed = before != member.can_be_chosen();
        self.receipts.on_load(worker.slot, &load);
        changed
    }

    /// What a new worker's curve is taken to be: that of one of its pool, else of any other.
    fn step_prior(&self, role: Role) -> StepCost {
        let peer = self.members().find(|m| m.role == role).or_else(|| self.members().next());
        peer.map_or_else(StepCost::default, |member| member.step.cost())
    }

    /// Scores every worker for a prompt of which they hold `matches`.
    pub(super) fn choose(
        &mut self,
        wanted: &Request,
        matches: &Matches,
        excluded: &Excluded,
    ) -> Result<Choice, NoChoice> {
        let candidates = |role| -> Vec<Candidate> {
            self.members()
                .filter(|member| member.role == role && member.can_be_chosen())
                .filter(|member| !excluded.contains(&member.key.id, member.key.incarnation))
                .map(|member| self.candidate(member, matches.blocks(WorkerSlot(member.key.slot))))
                .collect()
        };
        let (prefill, decode) = (candidates(Role::Prefill), candidates(Role::Decode));
        let decision = choose(wanted, &prefill, &decode, &self.config, &mut self.rng)?;
        tracing::debug!(?decision, "routed");
        match decision.choice {
            // It cannot take KV over.
            Choice::Disaggregated { decode, .. }
                if self.at(decode).is_none_or(|m| m.kv.is_none()) =>
            {
                Ok(Choice::Aggregated { decode })
            }
            choice => Ok(choice),
        }
    }

    fn candidate(&self, member: &Member, cached_blocks: u32) -> Candidate {
        Candidate {
            slot: member.key.slot,
            load: member.load,
            draining: member.draining,
            cached_blocks,
            max_num_seqs: member.max_num_seqs,
            max_waiting: member.max_waiting,
            pending: self.receipts.pending(member.key.slot),
            step: member.step.cost(),
        }
    }

    /// Books a leg on a worker, `computes` when the prompt is computed there; where the worker is.
    pub(super) fn book(
        &mut self,
        slot: u32,
        wanted: &Request,
        matches: &Matches,
        computes: bool,
    ) -> Option<(Receipt, Address)> {
        let cached = matches.blocks(WorkerSlot(slot));
        let member = self.at(slot)?;
        let address = Address {
            worker: member.key.clone(),
            channel: member.channel.clone(),
            kv: member.kv.clone(),
        };
        let prefill_tokens = if computes { wanted.uncached_tokens(cached) } else { 0 };
        let booking = Booking { prefill_tokens, context_tokens: wanted.prompt_tokens };
        Some((self.receipts.dispatched(slot, booking), address))
    }
}

fn check_texts(info: &v1::WorkerInfo) -> Result<(), Status> {
    for (name, text) in [("worker_id", &info.worker_id), ("address", &info.address)] {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return Err(Status::invalid_argument(format!("`{name}` is empty or too long")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
