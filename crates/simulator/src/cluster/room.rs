//! Requests that wait in the router while every worker's queue is full. The order is the production one.

use super::{Cluster, Event};
use crate::event::Class;
use crate::record::Fate;
use estafette_routing::{NoChoice, Openings, Place, QueueOrder, Waiter, WaitingRoom};
use std::collections::BTreeMap;

/// Who waits.
#[derive(Debug)]
pub(super) struct Room {
    /// Of one kind: all workers of a simulated pool are alike.
    waiting: WaitingRoom<(), u32>,
    places: BTreeMap<u32, Place<()>>,
}

impl Room {
    pub(super) fn new(capacity: u32) -> Self {
        let waiting = WaitingRoom::new(QueueOrder::Fcfs, capacity as usize);
        Self { waiting, places: BTreeMap::new() }
    }

    fn leave(&mut self, turn: u32) -> bool {
        let Some(place) = self.places.remove(&turn) else { return false };
        self.waiting.leave(place);
        true
    }
}

impl Cluster<'_> {
    /// A client asks: its request is sent, waits, or is turned away.
    pub(super) fn arrived(&mut self, now: u64, turn: u32) {
        self.records[turn as usize].arrived = Some(now);
        if self.room.waiting.is_empty() && self.try_send(now, turn) {
            return;
        }
        let waiter = Waiter { arrived_micros: now, ..Waiter::default() };
        let Ok(place) = self.room.waiting.enter(waiter, (), turn) else {
            self.close(now, turn, Fate::Rejected);
            return;
        };
        self.room.places.insert(turn, place);
        let until = now + self.settings.room_wait_micros;
        self.queue.push(until, Class::Timeout, u64::from(turn), Event::RoomTimeout);
    }

    /// Somewhere there may be room: those who wait are sent, in their order.
    pub(super) fn call_in(&mut self, now: u64) {
        while let Some(&turn) = self.room.waiting.next(|()| Openings::ALL) {
            if !self.try_send(now, turn) {
                return;
            }
            self.room.leave(turn);
        }
    }

    pub(super) fn waited_too_long(&mut self, now: u64, turn: u32) {
        if self.room.leave(turn) {
            self.close(now, turn, Fate::Rejected);
        }
    }

    /// False: every worker is full.
    fn try_send(&mut self, now: u64, turn: u32) -> bool {
        match self.send(now, turn) {
            Ok(()) => true,
            Err(NoChoice::Saturated) => false,
            Err(NoChoice::NoWorker) => {
                self.close(now, turn, Fate::Rejected);
                true
            }
        }
    }
}
