//! The result of a lookup, and how it is found: workers drop out until nobody is left.

use crate::WorkerSlot;

/// Each worker that holds the first block, with the number of leading blocks it holds; by slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matches {
    runs: Vec<(WorkerSlot, u32)>,
}

impl Matches {
    /// Leading blocks that the worker holds.
    pub fn blocks(&self, slot: WorkerSlot) -> u32 {
        let found = self.runs.binary_search_by_key(&slot, |(slot, _)| *slot);
        found.map_or(0, |i| self.runs[i].1)
    }

    /// The same as [`Matches::blocks`] for slots that are asked for in ascending order, without a search for each.
    pub fn in_order(&self) -> impl FnMut(WorkerSlot) -> u32 + '_ {
        let mut rest = self.runs.iter().peekable();
        move |slot| {
            while rest.next_if(|(holder, _)| *holder < slot).is_some() {}
            rest.peek().filter(|(holder, _)| *holder == slot).map_or(0, |(_, blocks)| *blocks)
        }
    }

    /// Workers with at least one block, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (WorkerSlot, u32)> + '_ {
        self.runs.iter().copied()
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
}

/// A lookup under way.
#[derive(Debug)]
pub(crate) struct Running {
    /// With how far each worker was seen to hold the blocks, for those that have dropped out.
    runs: Vec<(WorkerSlot, u32)>,
    /// Which of `runs` go on.
    alive: Vec<u32>,
}

impl Running {
    /// The first block's holders, sorted.
    pub(crate) fn new(holders: &[u32]) -> Self {
        Self {
            runs: holders.iter().map(|&slot| (WorkerSlot(slot), 0)).collect(),
            alive: (0..holders.len() as u32).collect(),
        }
    }

    /// Only `holders`, sorted, hold block number `block` too. Whether anybody is left.
    pub(crate) fn keep(&mut self, block: u32, holders: &[u32]) -> bool {
        let (runs, mut rest) = (&mut self.runs, holders);
        self.alive.retain(|&i| {
            let (WorkerSlot(slot), blocks) = &mut runs[i as usize];
            if rest.first().is_some_and(|first| first < slot) {
                rest = &rest[rest.partition_point(|holder| holder < slot)..];
            }
            let holds = rest.first() == Some(slot);
            if !holds {
                *blocks = block;
            }
            holds
        });
        !self.alive.is_empty()
    }

    /// There are `blocks` blocks, and whoever is left holds all of them.
    pub(crate) fn finish(mut self, blocks: u32) -> Matches {
        for i in self.alive {
            self.runs[i as usize].1 = blocks;
        }
        Matches { runs: self.runs }
    }
}
