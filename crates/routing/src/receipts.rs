//! Receipts: what was dispatched to a worker and is not yet in the worker's own load record.
//!
//! A leg is *pending* from its dispatch until the worker's record must contain it, and is *live* until it ends. The
//! router knows its live legs exactly, and a record says exactly how many sequences its worker has. So:
//!
//! 1. When a record with `n` sequences comes, at most `n` live legs can be in it; the oldest ones are taken to be, and
//!    count no longer. Whatever was dispatched after them is pending still, however late the record is.
//! 2. When a leg's first event comes its prompt has been computed: it is not pending, record or no record.
//! 3. When a leg ends, for any reason, nothing of it is left.
//!
//! What was once taken for contained stays so: workers do not forget sequences. The order in which events of the `Run`
//! and the state streams arrive cannot leave a count behind, because every rule is a statement about live legs and not
//! an increment. A race of a leg's end with an older record can settle one leg too early; it is in the worker's next
//! record, one step later. Sequences that other routers sent make `n` larger, so with several routers a leg may be
//! settled one record early; the worker's own record then already shows the others' load.

use std::collections::BTreeMap;

use estafette_types::LoadRecord;

/// What one leg will cost its worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Booking {
    /// Prompt tokens to compute there: 0 for the decode leg of a hand-off.
    pub prefill_tokens: u32,
    /// Tokens of KV that it will hold there: the whole prompt.
    pub context_tokens: u32,
}

/// Everything that is pending at one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Legs.
    pub sequences: u64,
    /// Their prompt tokens to compute.
    pub prefill_tokens: u64,
    /// Their tokens of KV.
    pub context_tokens: u64,
}

/// One leg, from its dispatch to its end. Not `Clone`, so a leg cannot end twice; give it back with
/// [`Receipts::finished`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a receipt that is not given back stays live until its worker is gone"]
pub struct Receipt {
    slot: u32,
    epoch: u64,
    number: u64,
}

impl Receipt {
    /// Of its worker.
    pub fn slot(&self) -> u32 {
        self.slot
    }
}

/// The receipts of all workers.
#[derive(Debug, Default)]
pub struct Receipts {
    workers: Vec<Worker>,
    next_number: u64,
}

/// Of one slot.
#[derive(Debug, Default)]
struct Worker {
    /// Counts the workers that had this slot: a receipt of an earlier one is worth nothing.
    epoch: u64,
    /// Live legs that records contain.
    settled: u64,
    /// Live legs that they do not, oldest first.
    pending: BTreeMap<u64, Booking>,
    sum: Pending,
}

impl Receipts {
    /// No receipts.
    pub fn new() -> Self {
        Self::default()
    }

    /// A leg is on its way. Call it in the same breath as [`crate::choose`], or concurrent requests all see the same
    /// idle worker.
    pub fn dispatched(&mut self, slot: u32, booking: Booking) -> Receipt {
        let number = self.next_number;
        self.next_number += 1;
        let index = slot as usize;
        if index >= self.workers.len() {
            self.workers.resize_with(index + 1, Worker::default);
        }
        let worker = &mut self.workers[index];
        worker.pending.insert(number, booking);
        worker.sum.add(booking);
        Receipt { slot, epoch: worker.epoch, number }
    }

    /// The leg's first event came.
    pub fn taken_in(&mut self, receipt: &Receipt) {
        if let Some(worker) = self.worker(receipt) {
            worker.settle(receipt.number);
        }
    }

    /// The leg has ended: finished, cancelled, refused, broken, timed out. Every leg ends here.
    #[expect(clippy::needless_pass_by_value, reason = "a leg ends once")]
    pub fn finished(&mut self, receipt: Receipt) {
        if let Some(worker) = self.worker(&receipt) {
            worker.settle(receipt.number);
            worker.settled -= 1;
        }
    }

    /// The worker's newest record came.
    pub fn on_load(&mut self, slot: u32, load: &LoadRecord) {
        let Some(worker) = self.workers.get_mut(slot as usize) else { return };
        while worker.settled < load.sequences() {
            let Some((&oldest, _)) = worker.pending.first_key_value() else { return };
            worker.settle(oldest);
        }
    }

    /// The worker is gone, and its legs with it; the slot may be given to another one. Receipts that are still out have no
    /// effect any more.
    pub fn worker_gone(&mut self, slot: u32) {
        if let Some(worker) = self.workers.get_mut(slot as usize) {
            *worker = Worker { epoch: worker.epoch + 1, ..Worker::default() };
        }
    }

    /// What is pending at a worker.
    pub fn pending(&self, slot: u32) -> Pending {
        self.workers.get(slot as usize).map_or_else(Pending::default, |worker| worker.sum)
    }

    /// Legs that have not ended.
    pub fn live(&self, slot: u32) -> u64 {
        self.workers.get(slot as usize).map_or(0, |worker| worker.settled + worker.sum.sequences)
    }

    fn worker(&mut self, receipt: &Receipt) -> Option<&mut Worker> {
        self.workers.get_mut(receipt.slot as usize).filter(|worker| worker.epoch == receipt.epoch)
    }
}

impl Worker {
    /// The leg counts as contained from now on; nothing changes when it did already.
    fn settle(&mut self, number: u64) {
        if let Some(booking) = self.pending.remove(&number) {
            self.sum.remove(booking);
            self.settled += 1;
        }
    }
}

impl Pending {
    fn add(&mut self, booking: Booking) {
        self.sequences += 1;
        self.prefill_tokens += u64::from(booking.prefill_tokens);
        self.context_tokens += u64::from(booking.context_tokens);
    }

    fn remove(&mut self, booking: Booking) {
        self.sequences -= 1;
        self.prefill_tokens -= u64::from(booking.prefill_tokens);
        self.context_tokens -= u64::from(booking.context_tokens);
    }
}

#[cfg(test)]
mod tests;
