//! One transfer at the sender: what is granted, ready, sent, and to be sent again.

use super::PushStats;
use crate::bitmap::Bitmap;
use crate::message::{FirstToken, Part};
use crate::runs::Destinations;
use crate::{HandoffError, HandoffLayout};
use estafette_types::{BlockId, TransferId};
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Instant;

/// One part to send: where its units are here and where they belong there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PartPlan {
    pub(crate) transfer: TransferId,
    pub(crate) epoch: u64,
    pub(crate) group: u32,
    pub(crate) first_block: u32,
    /// Of the request that it answers; 0 when the units go for the first time.
    pub(crate) round: u32,
    /// Block here, block there, in logical order.
    pub(crate) blocks: Vec<(BlockId, BlockId)>,
}

impl PartPlan {
    /// The header, once the checksums are known.
    pub(crate) fn header(&self, checksums: Vec<u64>) -> Part {
        Part {
            transfer: self.transfer,
            epoch: self.epoch,
            group: self.group,
            first_block: self.first_block,
            checksums,
            round: self.round,
        }
    }
}

/// Limits of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Bytes that may be unacknowledged.
    pub(crate) credit: u64,
    /// Bytes of one part, except that a single unit may be larger.
    pub(crate) part: usize,
    /// Units of one part.
    pub(crate) units: usize,
    /// Blocks of the receiver's pool.
    pub(crate) pool_blocks: u32,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct Grant {
    pub(super) epoch: u64,
    pub(super) to: Destinations,
    pub(super) sent: Bitmap,
    pub(super) units: usize,
    pub(super) expires: Instant,
    /// The newest request to send units again, and what is left to send of all of them: round, group, block.
    pub(super) round: u32,
    pub(super) again: VecDeque<(u32, u32, u32)>,
}

#[derive(Clone, Debug)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Outgoing {
    pub(super) attempt: u64,
    pub(super) table: Vec<BlockId>,
    pub(super) grant: Option<Grant>,
    pub(super) ready: VecDeque<(u32, Range<u32>)>,
    pub(super) commit: Option<FirstToken>,
    pub(super) committed: bool,
    pub(super) started: Instant,
    pub(super) deadline: Instant,
    pub(super) stats: PushStats,
}

impl Window {
    /// Units of `unit` bytes in one part.
    pub(super) fn units_of(&self, unit: usize) -> usize {
        (self.part / unit.max(1)).clamp(1, self.units.max(1))
    }
}

impl Grant {
    /// The receiver wants these units once more. A repeat of what it has asked before changes nothing.
    pub(super) fn send_again(
        &mut self,
        round: u32,
        group: u32,
        blocks: &[u32],
        groups: u32,
    ) -> Result<(), HandoffError> {
        if round <= self.round {
            return Ok(());
        }
        let sent = |b: &u32| {
            group < groups
                && self.to.contains_key(b)
                && self.sent.contains(unit_index(*b, group, groups))
        };
        if !blocks.iter().all(sent) {
            return Err(HandoffError::protocol("units are asked for again that were never sent"));
        }
        if self.again.len() + blocks.len() > self.units {
            return Err(HandoffError::protocol("more units are asked for again than there are"));
        }
        self.round = round;
        self.again.extend(blocks.iter().map(|b| (round, group, *b)));
        Ok(())
    }
}

impl Outgoing {
    pub(super) fn ends(&self) -> Instant {
        self.grant.as_ref().map_or(self.deadline, |grant| grant.expires.min(self.deadline))
    }

    /// The next part: of units that are to be sent again, else of units that go for the first time.
    pub(super) fn next_part(
        &mut self,
        transfer: TransferId,
        layout: &HandoffLayout,
        window: &Window,
    ) -> Option<(PartPlan, usize)> {
        self.next_again(transfer, layout, window)
            .or_else(|| self.next_fresh(transfer, layout, window))
    }

    /// Takes neighbours of one request to send again, at most one part long.
    pub(super) fn next_again(
        &mut self,
        transfer: TransferId,
        layout: &HandoffLayout,
        window: &Window,
    ) -> Option<(PartPlan, usize)> {
        let grant = self.grant.as_mut()?;
        let (round, group, first_block) = *grant.again.front()?;
        let unit = layout.unit_bytes(group);
        let mut blocks = Vec::new();
        while blocks.len() < window.units_of(unit)
            && let Some(&next) = grant.again.front()
            && next == (round, group, first_block + blocks.len() as u32)
            && let Some(from) = self.table.get(next.2 as usize)
            && let Some(to) = grant.to.get(&next.2)
        {
            blocks.push((*from, *to));
            grant.again.pop_front();
        }
        let (epoch, bytes) = (grant.epoch, blocks.len() * unit);
        Some((PartPlan { transfer, epoch, group, first_block, round, blocks }, bytes))
    }

    /// Takes the next run of granted, unsent, ready units of one group, at most one part long.
    pub(super) fn next_fresh(
        &mut self,
        transfer: TransferId,
        layout: &HandoffLayout,
        window: &Window,
    ) -> Option<(PartPlan, usize)> {
        let grant = self.grant.as_ref()?;
        while let Some((group, blocks)) = self.ready.pop_front() {
            let unit = layout.unit_bytes(group);
            let most = window.units_of(unit);
            let wanted = |block: &u32| {
                grant.to.contains_key(block)
                    && !grant.sent.contains(unit_index(*block, group, layout.groups()))
            };
            let Some(first) = blocks.clone().find(wanted) else { continue };
            let end = (first..blocks.end).take(most).take_while(wanted).last().unwrap_or(first) + 1;
            if end < blocks.end {
                self.ready.push_front((group, end..blocks.end));
            }
            let blocks = (first..end)
                .filter_map(|b| Some((*self.table.get(b as usize)?, *grant.to.get(&b)?)))
                .collect::<Vec<_>>();
            let bytes = blocks.len() * unit;
            let (epoch, first_block) = (grant.epoch, first);
            let plan = PartPlan { transfer, epoch, group, first_block, round: 0, blocks };
            return Some((plan, bytes));
        }
        None
    }

    pub(super) fn put_back(&mut self, plan: &PartPlan) {
        let blocks = plan.first_block..plan.first_block + plan.blocks.len() as u32;
        if plan.round == 0 {
            return self.ready.push_front((plan.group, blocks));
        }
        if let Some(grant) = self.grant.as_mut() {
            blocks.rev().for_each(|b| grant.again.push_front((plan.round, plan.group, b)));
        }
    }

    pub(super) fn mark_sent(&mut self, plan: &PartPlan, bytes: usize, groups: u32) {
        if let Some(grant) = self.grant.as_mut() {
            for i in 0..plan.blocks.len() as u32 {
                grant.sent.insert(unit_index(plan.first_block + i, plan.group, groups));
            }
        }
        if plan.round > 0 {
            self.stats.units_again += plan.blocks.len() as u64;
        }
        self.stats.bytes += bytes as u64;
        self.stats.parts += 1;
    }
}

/// The place of a unit in a transfer's bitmap.
pub(crate) fn unit_index(block: u32, group: u32, groups: u32) -> usize {
    block as usize * groups as usize + group as usize
}
