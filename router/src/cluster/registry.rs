//! The tables behind the lock.

use super::lost::{Fate, Loss, Lost};
use super::waiting::{Place as Seat, WaitingRoom};
use super::{Excluded, Shape, WorkerKey};
use crate::worker_client::channel;
use estafette_kv_index::{Matches, WorkerSlot};
use estafette_proto::v1;
use estafette_routing::{
    Decision, Fleet, FleetWorker, NoChoice, Openings, Receipt, Request, RoutingConfig, WorkerTraits,
};
use estafette_security::Tls;
use estafette_types::{Incarnation, LoadRecord, Role, SplitMix64, WorkerId, name_hash};
use std::fmt;
use std::sync::Arc;
use tonic::Status;
use tonic::transport::Channel;

/// Names and addresses longer than this are no names and addresses.
const TEXT_BYTES_MAX: usize = 1024;

/// A worker that has joined, as far as only a router needs to know it; the rest is in the [`Fleet`].
#[derive(Debug)]
pub(super) struct Member {
    pub(super) key: WorkerKey,
    channel: Channel,
    /// A connection of its own: legs that nobody reads must not hold up what all choices rest on.
    pub(super) state_channel: Channel,
    kv: Option<v1::KvEndpoint>,
    shape: Shape,
    numerics_id: Arc<str>,
    pub(super) loss: Loss,
}

impl Member {
    pub(super) fn shape(&self) -> Shape {
        self.shape
    }
}

/// Where a chosen worker is.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) worker: WorkerKey,
    pub(super) channel: Channel,
    pub(super) kv: Option<v1::KvEndpoint>,
    pub(super) lost: Lost,
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
    pub(super) fleet: Fleet,
    pub(super) room: WaitingRoom,
    pub(super) rng: SplitMix64,
    /// What the members agree on; kept up to date, since every request asks for it.
    shape: Option<Shape>,
    /// With which workers are called.
    tls: Option<Tls>,
}

impl Registry {
    pub(super) fn new(room: WaitingRoom, rng: SplitMix64) -> Self {
        let fleet = Fleet::new(RoutingConfig::default());
        Self { places: Vec::new(), fleet, room, rng, shape: None, tls: None }
    }

    /// Workers are called with `tls`, if there is one.
    pub(super) fn with_tls(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// Something has changed: the first of those who find a place now tries again. Whoever is sent, or goes, wakes the next.
    pub(super) fn wake(&self) {
        if let Some(next) = self.room.next(|excluded| self.openings(excluded)) {
            next.notify_one();
        }
    }

    /// Whether one who waits at `seat`, or has just come, may be chosen for: nobody who finds a place now is before him.
    pub(super) fn may_choose(&self, seat: Option<&Seat>) -> bool {
        let openings = |excluded: &Excluded| self.openings(excluded);
        match seat {
            Some(seat) => self.room.is_next(seat, openings),
            None => self.room.next(openings).is_none(),
        }
    }

    /// Which requests find a place, that `excluded` keeps from some workers.
    pub(super) fn openings(&self, excluded: &Excluded) -> Openings {
        self.fleet.openings(|slot| allows(&self.places, excluded, slot))
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

    /// What the members agree on; `None` without any.
    pub(super) fn shape(&self) -> Option<Shape> {
        self.shape
    }

    /// How all members compute; empty without any.
    pub(super) fn numerics_id(&self) -> Arc<str> {
        self.members().next().map_or_else(|| "".into(), |member| Arc::clone(&member.numerics_id))
    }

    fn update_shape(&mut self) {
        let shapes = self.members().map(|member| member.shape);
        // Every worker must be able to hold a sequence whole.
        self.shape = shapes.min_by_key(|shape| shape.max_model_len);
    }

    pub(super) fn join(&mut self, info: v1::WorkerInfo) -> Result<WorkerKey, Status> {
        let role = Role::try_from(info.role())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        check_texts(&info)?;
        let takes_kv = info.kv.is_some();
        if role == Role::Decode && !takes_kv && self.fleet.count(Role::Prefill) > 0 {
            tracing::warn!(worker = info.worker_id, "it takes no KV: it prefills for itself");
        }
        let connect = || {
            channel(&info.address, self.tls.as_ref()).map_err(|error| {
                Status::invalid_argument(format!("`{}` is no address: {error}", info.address))
            })
        };
        let (channel, state_channel) = (connect()?, connect()?);
        let id = WorkerId(info.worker_id);
        let pool = info.pool.unwrap_or_default();
        let shape = Shape { block_size: pool.block_size, max_model_len: pool.max_model_len };
        let old = self.members().find(|member| member.key.id == id).map(|m| m.key.clone());
        self.check_pool(&shape, &pool.numerics_id, old.as_ref())?;
        // A restarted worker replaces its predecessor at once.
        if let Some(old) = old {
            self.leave(&old);
        }
        let slot = self.free_slot();
        let name_hash = name_hash(&id.0);
        let key = WorkerKey { slot, id, incarnation: Incarnation(info.incarnation) };
        self.places[slot as usize] = Place::Taken(Box::new(Member {
            key: key.clone(),
            channel,
            state_channel,
            kv: info.kv,
            shape,
            numerics_id: pool.numerics_id.into(),
            loss: Loss::new(),
        }));
        let traits = WorkerTraits {
            role,
            max_num_seqs: info.max_num_seqs,
            max_waiting: info.max_waiting,
            max_num_batched_tokens: info.max_num_batched_tokens,
            takes_kv,
            name_hash,
        };
        self.fleet.join(slot, traits);
        self.update_shape();
        Ok(key)
    }

    /// Workers of one cluster must be interchangeable. The one that is to be replaced does not count.
    fn check_pool(
        &self,
        shape: &Shape,
        numerics_id: &str,
        replaced: Option<&WorkerKey>,
    ) -> Result<(), Status> {
        let Some(ours) = self.members().find(|member| Some(&member.key) != replaced) else {
            return Ok(());
        };
        let (block_size, ours_block_size) = (shape.block_size, ours.shape.block_size);
        let differs = |field, there: &dyn fmt::Display, here: &dyn fmt::Display| {
            Err(Status::failed_precondition(format!(
                "its `{field}` differs from that of the workers that are there: {here} here, {there} there"
            )))
        };
        if block_size != ours_block_size {
            return differs("block_size", &block_size, &ours_block_size);
        }
        if numerics_id != &*ours.numerics_id {
            return differs("numerics_id", &numerics_id, &ours.numerics_id);
        }
        Ok(())
    }

    fn free_slot(&mut self) -> u32 {
        let is_free = |place: &Place| matches!(place, Place::Free);
        let free = self.places.iter().position(is_free).unwrap_or_else(|| {
            self.places.push(Place::Free);
            self.places.len() - 1
        });
        free as u32
    }

    /// Takes a worker out. Its slot stays its own until [`Registry::free`]. Who leaves in order has finished its work, or
    /// said that it has not.
    pub(super) fn leave(&mut self, worker: &WorkerKey) {
        if let Some(member) = self.member(worker) {
            if !self.fleet.worker(worker.slot).is_some_and(FleetWorker::is_draining) {
                member.loss.tell(Fate::Gone);
            }
            self.fleet.leave(worker.slot);
            self.places[worker.slot as usize] = Place::Leaving(worker.clone());
            self.update_shape();
            self.wake();
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
        if self.member(worker).is_some() {
            self.fleet.unsynced(worker.slot);
            self.wake();
        }
    }

    /// See [`Fleet::refused`].
    pub(super) fn refused(&mut self, worker: &WorkerKey) {
        if self.member(worker).is_some() {
            self.fleet.refused(worker.slot);
            // Whoever was woken for that place finds none, and the next one may go elsewhere.
            self.wake();
        }
    }

    /// What the worker says of itself, its blocks apart. Whether it starts or stops to be one that can be chosen.
    pub(super) fn heard(&mut self, worker: &WorkerKey, load: &LoadRecord, draining: bool) -> bool {
        let had = self.fleet.has_opening(worker.slot);
        let changed =
            self.member(worker).is_some() && self.fleet.heard(worker.slot, load, draining);
        // A worker that is as full as before gives nobody a place. One that has become full may have taken it from somebody who
        // was woken for it, and the next one may go elsewhere.
        if changed || had || self.fleet.has_opening(worker.slot) {
            self.wake();
        }
        changed
    }

    /// A worker counts the leg itself from now on.
    pub(super) fn taken_in(&mut self, receipt: &Receipt) {
        self.fleet.taken_in(receipt);
        self.wake();
    }

    /// A leg has ended, whatever ended it.
    pub(super) fn finished(&mut self, receipt: Receipt) {
        self.fleet.finished(receipt);
        self.wake();
    }

    /// Scores every worker for a prompt of which they hold `matches`.
    pub(super) fn choose(
        &mut self,
        wanted: &Request,
        matches: &Matches,
        excluded: &Excluded,
    ) -> Result<Decision, NoChoice> {
        let allowed = |slot| allows(&self.places, excluded, slot);
        let mut held = matches.in_order();
        let cached = |slot| held(WorkerSlot(slot));
        self.fleet.choose(wanted, cached, allowed, &mut self.rng)
    }

    /// Books a leg on a worker, `computes` when the prompt is computed there; where the worker is.
    pub(super) fn book(
        &mut self,
        slot: u32,
        wanted: &Request,
        matches: &Matches,
        computes: bool,
    ) -> Option<(Receipt, Address)> {
        let member = self.at(slot)?;
        let address = Address {
            worker: member.key.clone(),
            channel: member.channel.clone(),
            kv: member.kv.clone(),
            lost: member.loss.listen(),
        };
        let cached = matches.blocks(WorkerSlot(slot));
        Some((self.fleet.book(slot, wanted, cached, computes), address))
    }
}

/// Whether the worker in `slot` may run what is kept from `excluded`.
fn allows(places: &[Place], excluded: &Excluded, slot: u32) -> bool {
    let member = places.get(slot as usize).and_then(Place::member);
    member.is_some_and(|member| !excluded.contains(&member.key, &member.numerics_id))
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
pub(super) mod tests;
