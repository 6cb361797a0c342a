//! The result of a lookup, and how it is found: workers drop out of the running until nobody is left.

use crate::WorkerSlot;

/// Each worker that holds the first block, with the number of leading blocks it holds; by slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matches {
    /// By slot. 0 while the worker's run goes on.
    runs: Vec<(u32, u32)>,
    /// How many runs go on.
    alive: usize,
}

impl Matches {
    /// Leading blocks that the worker holds.
    pub fn blocks(&self, slot: WorkerSlot) -> u32 {
        let found = self.runs.binary_search_by_key(&slot.0, |(slot, _)| *slot);
        found.map_or(0, |i| self.runs[i].1)
    }

    /// Workers with at least one block, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (WorkerSlot, u32)> + '_ {
        self.runs.iter().map(|&(slot, blocks)| (WorkerSlot(slot), blocks))
    }

    /// The longest run of any worker.
    pub fn longest(&self) -> u32 {
        self.runs.iter().map(|(_, blocks)| *blocks).max().unwrap_or(0)
    }

    /// How many workers hold the first block.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Nobody holds the first block.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The first block's holders, sorted.
    pub(crate) fn start(&mut self, holders: &[u32]) {
        self.runs.extend(holders.iter().map(|&slot| (slot, 0)));
        self.alive = self.runs.len();
    }

    /// Only `holders`, sorted, hold block number `block` too.
    pub(crate) fn keep(&mut self, block: u32, holders: &[u32]) {
        let mut rest = holders;
        for (slot, blocks) in self.runs.iter_mut().filter(|(_, blocks)| *blocks == 0) {
            rest = &rest[rest.partition_point(|holder| holder < slot)..];
            if rest.first() != Some(slot) {
                *blocks = block;
                self.alive -= 1;
            }
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.alive == 0
    }

    /// The prompt ends: what goes on ends here.
    pub(crate) fn finish(&mut self, blocks: u32) {
        if self.alive > 0 {
            for (_, run) in self.runs.iter_mut().filter(|(_, run)| *run == 0) {
                *run = blocks;
            }
            self.alive = 0;
        }
    }
}
