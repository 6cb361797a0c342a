//! Counting what has come, and asking once more for what came damaged or not at all.

use super::Receiving;
use super::api::ConnId;
use crate::HandoffError;
use crate::message::{Message, Part, RESEND_UNITS_MAX};
use crate::sending::unit_index;
use estafette_types::TransferId;

impl Receiving {
    /// The unit of `part.group` in logical `block` is in its place and has the right checksum.
    pub(crate) fn count(&mut self, conn: ConnId, part: &Part, block: u32) {
        let groups = self.layout.groups();
        if let Some(granted) = self.live(conn, part.transfer, part.epoch)
            && granted.wanted(part, block, groups).is_some()
        {
            let index = unit_index(block, part.group, groups);
            granted.asked.remove(&index);
            granted.counted.insert(index);
            self.complete(part.transfer);
        }
    }

    /// A unit has the wrong checksum: it is asked for again, or the transfer fails when too many were.
    pub(crate) fn corrupt(&mut self, conn: ConnId, part: &Part, block: u32) {
        let groups = self.layout.groups();
        if let Some(granted) = self.live(conn, part.transfer, part.epoch)
            && granted.wanted(part, block, groups).is_some()
            && !self.ask_again(part.transfer, part.group, vec![block])
        {
            let error = HandoffError::ChecksumMismatch { block, group: part.group };
            self.fail(part.transfer, error);
        }
    }

    /// Everything has been sent: what has not come by now is lost.
    pub(super) fn ask_for_lost(&mut self, transfer: TransferId) {
        let groups = self.layout.groups();
        for group in 0..groups {
            let Some(granted) = self.granted(transfer) else { return };
            let lost = |block: &u32| {
                let index = unit_index(*block, group, groups);
                !granted.counted.contains(index) && !granted.asked.contains_key(&index)
            };
            let lost: Vec<u32> = granted.to.keys().copied().filter(lost).collect();
            if !lost.is_empty() && !self.ask_again(transfer, group, lost) {
                let error = HandoffError::protocol("too many units are missing after the commit");
                return self.fail(transfer, error);
            }
        }
    }

    /// False when the budget does not allow it.
    fn ask_again(&mut self, transfer: TransferId, group: u32, blocks: Vec<u32>) -> bool {
        let groups = self.layout.groups();
        let Some(granted) = self.granted(transfer) else { return false };
        if blocks.len() > granted.resends_left.min(RESEND_UNITS_MAX) {
            return false;
        }
        granted.resends_left -= blocks.len();
        granted.round += 1;
        let (conn, epoch, round) = (granted.peer.conn, granted.epoch, granted.round);
        let indices = blocks.iter().map(|block| (unit_index(*block, group, groups), round));
        granted.asked.extend(indices);
        self.send(conn, Message::Resend { transfer, epoch, round, group, blocks });
        true
    }
}
