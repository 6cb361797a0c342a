//! KV on its way from prefill to decode workers.
//!
//! The KV of a chunk leaves layer group by layer group while the chunk is computed, over the sender's and the receiver's
//! link, first come first served. A chunk that was granted in time is there one group's share after its step; one that
//! was not begins with the grant.

use std::collections::BTreeMap;

/// Blocks that were computed, or found in the cache.
#[derive(Clone, Copy, Debug)]
struct Segment {
    from: u32,
    to: u32,
    /// When the first of it could leave, and the last.
    began: u64,
    ended: u64,
}

/// One hand-off.
#[derive(Debug)]
struct Transfer {
    sender: u32,
    receiver: u32,
    /// When it was granted, and how many blocks the receiver holds.
    granted: Option<(u64, u32)>,
    /// What cannot leave without a grant.
    ready: Vec<Segment>,
    /// When the last byte of what has left is there.
    done_at: u64,
    complete: bool,
}

/// All hand-offs and links.
#[derive(Debug)]
pub(crate) struct HandOffs {
    transfers: BTreeMap<u32, Transfer>,
    /// Until when each worker's link is taken, outwards and inwards.
    egress: BTreeMap<u32, u64>,
    ingress: BTreeMap<u32, u64>,
    block_bytes: u64,
    bytes_per_second: u64,
    layer_groups: u64,
    /// Sent so far.
    pub(crate) bytes: u64,
}

impl HandOffs {
    pub(crate) fn new(block_bytes: u64, bytes_per_second: u64, layer_groups: u32) -> Self {
        Self {
            transfers: BTreeMap::new(),
            egress: BTreeMap::new(),
            ingress: BTreeMap::new(),
            block_bytes,
            bytes_per_second,
            layer_groups: u64::from(layer_groups),
            bytes: 0,
        }
    }

    /// The prompt of `turn` is about to be computed by `sender`, which has its first blocks.
    pub(crate) fn begin(&mut self, turn: u32, sender: u32, receiver: u32, cached: u32, now: u64) {
        let cached = Segment { from: 0, to: cached, began: now, ended: now };
        let transfer = Transfer {
            sender,
            receiver,
            granted: None,
            ready: vec![cached],
            done_at: now,
            complete: false,
        };
        self.transfers.insert(turn, transfer);
    }

    /// Blocks were computed in a step from `began` to now; `last` of the prompt. When everything will be there, if that is
    /// known now.
    pub(crate) fn computed(
        &mut self,
        turn: u32,
        blocks: (u32, u32),
        began: u64,
        now: u64,
        last: bool,
    ) -> Option<u64> {
        let transfer = self.transfers.get_mut(&turn)?;
        transfer.ready.push(Segment { from: blocks.0, to: blocks.1, began, ended: now });
        transfer.complete |= last;
        self.send(turn, now)
    }

    /// The receiver has reserved its blocks. When everything will be there, if that is known now.
    pub(crate) fn granted(&mut self, turn: u32, cached: u32, now: u64) -> Option<u64> {
        self.transfers.get_mut(&turn)?.granted = Some((now, cached));
        self.send(turn, now)
    }

    /// It is over: delivered or revoked. The sender, if it was under way.
    pub(crate) fn end(&mut self, turn: u32) -> Option<u32> {
        self.transfers.remove(&turn).map(|transfer| transfer.sender)
    }

    fn send(&mut self, turn: u32, now: u64) -> Option<u64> {
        let transfer = self.transfers.get_mut(&turn)?;
        let (granted_at, held) = transfer.granted?;
        let egress = self.egress.entry(transfer.sender).or_default();
        let ingress = self.ingress.entry(transfer.receiver).or_default();
        for segment in transfer.ready.drain(..) {
            let blocks = segment.to.saturating_sub(segment.from.max(held));
            if blocks == 0 {
                continue;
            }
            let bytes = u64::from(blocks) * self.block_bytes;
            let wire = micros_for(bytes, self.bytes_per_second);
            let first_group = segment.began + (segment.ended - segment.began) / self.layer_groups;
            let start = first_group.max(granted_at).max(*egress).max(*ingress);
            let end = start + wire;
            (*egress, *ingress) = (end, end);
            // The last group leaves when it is computed.
            let there = end.max(segment.ended + wire.div_ceil(self.layer_groups));
            transfer.done_at = transfer.done_at.max(there);
            self.bytes += bytes;
        }
        transfer.complete.then(|| transfer.done_at.max(now))
    }
}

/// Rounded up.
fn micros_for(bytes: u64, bytes_per_second: u64) -> u64 {
    let micros = (u128::from(bytes) * 1_000_000).div_ceil(u128::from(bytes_per_second));
    u64::try_from(micros).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests;
