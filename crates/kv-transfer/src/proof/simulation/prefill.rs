//! A prefill worker: its engine, and what `pusher.rs` and `connection.rs` do.

use super::plan::{Micros, Plan, SECOND};
use super::world::{Event, Step, World, content};
use crate::message::FirstToken;
use crate::proof::invariants::one_verdict::Side;
use estafette_types::{BlockId, TransferId};
use std::collections::BTreeMap;

/// How long a frame that was begun may take.
pub(super) const IO_TIME: Micros = 10 * SECOND;

/// A push that has no outcome yet.
#[derive(Debug)]
pub(super) struct Running {
    request: usize,
    conn: usize,
    pub(super) table: Vec<u32>,
    /// Blocks whose last group is final.
    done: u32,
    committed: bool,
}

#[derive(Debug)]
pub(super) struct PrefillWorker {
    pub(super) source: Vec<u8>,
    pub(super) running: BTreeMap<usize, Running>,
    pub(super) paused: Micros,
    pub(super) down: bool,
}

impl PrefillWorker {
    pub(super) fn new(plan: &Plan) -> Self {
        let bytes = plan.layout.kv.block_bytes() * plan.source_blocks as usize;
        Self { source: vec![0xee; bytes], running: BTreeMap::new(), paused: 0, down: false }
    }

    /// Random blocks that no running push has.
    pub(super) fn table(&self, plan: &mut Plan, blocks: u32) -> Vec<u32> {
        let used = |b: &u32| self.running.values().any(|running| running.table.contains(b));
        let mut free: Vec<u32> = (0..plan.source_blocks).filter(|b| !used(b)).collect();
        (0..blocks)
            .filter_map(|_| {
                let at = plan.rng.below(free.len() as u64) as usize;
                (!free.is_empty()).then(|| free.swap_remove(at))
            })
            .collect()
    }
}

impl World {
    /// The push of a request begins. The worker has one push of a transfer at a time.
    pub(super) fn push_comes(&mut self, at: usize) -> Step {
        let request = self.plan.requests[at];
        let worker = &self.prefills[request.prefill];
        if worker.down || worker.running.values().any(|running| running.request == at) {
            return Ok(());
        }
        let table = worker.table(&mut self.plan, request.blocks);
        if table.len() < request.blocks as usize {
            return Ok(());
        }
        let push = self.pushes.len();
        self.pushes.push(at);
        self.tries[at].push = Some(push);
        self.verdicts.owe(Side::Sender, push as u64);
        let conn = self.connection(request.prefill, request.decode);
        self.log(|| format!("push {push} of request {at} on conn {conn}, table {table:?}"));
        let running = Running { request: at, conn, table, done: 0, committed: false };
        self.prefills[request.prefill].running.insert(push, running);
        if self.conns[conn].client.attached {
            self.begin(conn, push);
        } else {
            self.conns[conn].client.starts.push(push);
        }
        self.soon(request.step, Event::Step(push));
        if let Some(after) = request.abort_after {
            self.soon(after.max(1), Event::Abort(push));
        }
        Ok(())
    }

    /// Says what is final from block `from` on, and the first token once everything is.
    pub(super) fn tell(&mut self, push: usize, from: u32) {
        let request = self.plan.requests[self.pushes[push]];
        let groups = self.plan.layout.groups();
        let Some(running) = self.prefills[request.prefill].running.get(&push) else { return };
        let transfer = TransferId(running.request as u128);
        let (conn, done, committed) = (running.conn, running.done, running.committed);
        let sending = &mut self.conns[conn].client.sending;
        for group in 0..groups {
            sending.ready(transfer, group, from..done);
        }
        if committed {
            sending.commit(transfer, FirstToken { token: 7, logprob: None });
        }
        self.wake(conn);
    }

    /// The engine runs one chunk of the prompt: its blocks become final, group by group.
    pub(super) fn engine_step(&mut self, push: usize) -> Step {
        let request = self.plan.requests[self.pushes[push]];
        if self.defer_prefill(request.prefill, Event::Step(push)) {
            return Ok(());
        }
        let layout = self.plan.layout.clone();
        let seed = self.plan.seed;
        let worker = &mut self.prefills[request.prefill];
        let Some(running) = worker.running.get_mut(&push) else { return Ok(()) };
        let (from, conn) = (running.done, running.conn);
        let until = (from + request.chunk).min(request.blocks);
        let transfer = running.request as u128;
        for logical in from..until {
            let block = BlockId(running.table[logical as usize]);
            for group in 0..layout.groups() {
                let range = layout.unit_range(block, group);
                let bytes = content(seed, transfer, logical, group, range.len());
                worker.source[range].copy_from_slice(&bytes);
            }
        }
        running.done = until;
        running.committed = until == request.blocks;
        let over = running.committed;
        if self.conns[conn].client.attached {
            self.tell(push, from);
        }
        if !over {
            self.soon(request.step, Event::Step(push));
        }
        Ok(())
    }

    pub(super) fn engine_aborts(&mut self, push: usize) -> Step {
        let request = self.plan.requests[self.pushes[push]];
        let Some(running) = self.prefills[request.prefill].running.get(&push) else {
            return Ok(());
        };
        // A finished prompt is not given up any more.
        if running.committed || !self.conns[running.conn].client.attached {
            return Ok(());
        }
        let (conn, transfer) = (running.conn, TransferId(running.request as u128));
        self.log(|| format!("push {push} is aborted"));
        self.conns[conn].client.sending.abort(transfer);
        self.wake(conn);
        Ok(())
    }

    /// While a worker is stopped nothing of it happens.
    pub(super) fn defer_prefill(&mut self, prefill: usize, event: Event) -> bool {
        let until = self.prefills[prefill].paused;
        if until > self.now {
            self.at(until, event);
        }
        until > self.now
    }

    pub(super) fn push_of(&self, conn: usize, transfer: TransferId) -> Option<usize> {
        let worker = &self.prefills[self.conns[conn].prefill];
        let of = |running: &Running| running.conn == conn && running.request as u128 == transfer.0;
        worker.running.iter().find(|(_, running)| of(running)).map(|(push, _)| *push)
    }

    /// The blocks of a push are free; whoever gets them writes something else into them.
    pub(super) fn forget_push(&mut self, push: usize) {
        let request = self.pushes[push];
        let layout = self.plan.layout.clone();
        let worker = &mut self.prefills[self.plan.requests[request].prefill];
        if let Some(running) = worker.running.remove(&push) {
            for block in running.table {
                let from = layout.unit_range(BlockId(block), 0).start;
                worker.source[from..from + layout.kv.block_bytes()].fill(0xdd);
            }
        }
        self.try_again(request);
    }

    /// The process dies, also within a store.
    pub(super) fn kill_prefill(&mut self, which: usize) {
        for conn in 0..self.conns.len() {
            if self.conns[conn].prefill == which && self.conns[conn].client.open {
                self.conns[conn].client.open = false;
                self.conns[conn].client.storing = None;
                self.hang_up(conn);
            }
        }
        let worker = &mut self.prefills[which];
        (worker.down, worker.paused) = (true, 0);
        let running = std::mem::take(&mut worker.running);
        for (push, running) in running {
            self.verdicts.forgive(Side::Sender, push as u64);
            self.try_again(running.request);
        }
    }
}
