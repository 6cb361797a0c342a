//! Both state machines against each other over a network that drops, repeats and reorders, with aborts at
//! every step. The invariants:
//! I1 no store into a block that its owner did not grant to that transfer, I2 no block stays revoked once
//! the connection is gone, I3 adopted blocks hold exactly what was sent, I4 no source block is read after
//! the outcome, I5 no message breaks anything.

use super::*;
use crate::message::FirstToken;
use crate::sending::{PartPlan, SendAction, Sending, Window};
use estafette_kernels::KvLayout;
use proptest::prelude::*;

const CONN: ConnId = 1;
const SEQUENCE: SequenceId = SequenceId(7);
const BLOCKS: u32 = 3;
const TRANSFERS: u32 = 3;
const POOL: u32 = 12;
const FIRST: FirstToken = FirstToken { token: 5, logprob: None };

type Unit = (u128, u32, u32);

fn layout() -> HandoffLayout {
    HandoffLayout {
        kv: KvLayout { num_blocks: POOL, block_size: 1, layers: 2, kv_heads: 1, head_dim: 1 },
        layers_per_group: 1,
        model_digest: Vec::new(),
        numerics_id: String::new(),
    }
}

enum Wire {
    Message(Message),
    /// A part and, where the receiver stores, its units.
    Part(Part),
}

struct World {
    one_sided: bool,
    now: Instant,
    sending: Sending,
    receiving: Receiving,
    to_receiver: Vec<Wire>,
    to_sender: Vec<Message>,
    /// Per pool block: the transfer that owns it.
    owners: Vec<Option<u128>>,
    granted: BTreeMap<u128, Vec<(u32, u32)>>,
    pool: BTreeMap<(u32, u32), Unit>,
    outcomes: BTreeMap<u128, usize>,
    ended: BTreeMap<u128, usize>,
    revoked: Vec<u128>,
}

impl World {
    fn new(one_sided: bool) -> Self {
        let window = Window { credit: 8 * 4, part: 2 * 4, units: 2, pool_blocks: POOL };
        Self {
            one_sided,
            now: Instant::now(),
            sending: Sending::new(layout(), window),
            receiving: Receiving::new(layout(), ReceiverLimits::default()),
            to_receiver: Vec::new(),
            to_sender: Vec::new(),
            owners: vec![None; POOL as usize],
            granted: BTreeMap::new(),
            pool: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            ended: BTreeMap::new(),
            revoked: Vec::new(),
        }
    }

    fn store(&mut self, transfer: u128, logical: u32, group: u32, block: u32) {
        assert_eq!(self.owners[block as usize], Some(transfer), "I1: a store without ownership");
        let wanted = self.granted[&transfer].contains(&(logical, block));
        assert!(wanted, "I1: a store into another block than was granted");
        self.pool.insert((block, group), (transfer, logical, group));
    }

    fn send(&mut self) {
        match self.sending.poll_action() {
            Some(SendAction::Message(message)) => self.to_receiver.push(Wire::Message(message)),
            Some(SendAction::Part(plan)) => self.send_part(&plan),
            Some(SendAction::Outcome(transfer, _)) => {
                *self.outcomes.entry(transfer.0).or_default() += 1;
            }
            None => {}
        }
    }

    fn send_part(&mut self, plan: &PartPlan) {
        assert!(!self.outcomes.contains_key(&plan.transfer.0), "I4: a read after the outcome");
        if self.one_sided {
            for (i, (_, to)) in plan.blocks.iter().enumerate() {
                self.store(plan.transfer.0, plan.first_block + i as u32, plan.group, to.0);
            }
        }
        let checksums = vec![0; plan.blocks.len()];
        self.to_receiver.push(Wire::Part(plan.header(checksums)));
    }

    fn deliver(&mut self, wire: &Wire) {
        match wire {
            Wire::Message(message) => {
                let message = message.clone();
                let result = self.receiving.on_message(self.now, CONN, self.one_sided, message);
                assert_eq!(result, Ok(()), "I5");
            }
            Wire::Part(part) => {
                let placement = self.receiving.place(CONN, part).expect("a known group");
                for (i, to) in placement.to.iter().enumerate() {
                    let logical = part.first_block + i as u32;
                    let Some(to) = to else { continue };
                    if !self.one_sided {
                        self.store(part.transfer.0, logical, part.group, to.0);
                    }
                    self.receiving.count(CONN, part, logical);
                }
                let bytes = part.checksums.len() * layout().unit_bytes(part.group);
                self.to_sender.push(Message::Ack { bytes: bytes as u64 });
            }
        }
        self.carry_out();
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.receiving.poll_action() {
            match action {
                ReceiveAction::Send(_, message) => self.to_sender.push(message),
                ReceiveAction::Event(ReceiverEvent::GrantRequested { transfer, .. }) => {
                    self.grant(transfer);
                }
                ReceiveAction::Event(ReceiverEvent::Completed { transfer, .. }) => {
                    *self.ended.entry(transfer.0).or_default() += 1;
                    self.adopt(transfer.0);
                }
                ReceiveAction::Event(ReceiverEvent::Failed { transfer, .. }) => {
                    *self.ended.entry(transfer.0).or_default() += 1;
                    self.revoke(transfer);
                }
                ReceiveAction::Fenced(transfer) => self.free(transfer.0),
            }
        }
    }

    fn grant(&mut self, transfer: TransferId) {
        let free: Vec<u32> =
            (0..POOL).filter(|b| self.owners[*b as usize].is_none()).take(2).collect();
        let [a, b] = free[..] else { return };
        let blocks = vec![(0, b), (2, a)];
        let asked: Vec<_> = blocks.iter().map(|(l, p)| (*l, BlockId(*p))).collect();
        if self.receiving.grant(self.now, transfer, &asked).is_ok() {
            for (_, block) in &blocks {
                self.owners[*block as usize] = Some(transfer.0);
            }
            self.granted.insert(transfer.0, blocks);
        }
    }

    fn adopt(&mut self, transfer: u128) {
        for (logical, block) in self.granted[&transfer].clone() {
            for group in 0..layout().groups() {
                let found = self.pool.get(&(block, group));
                assert_eq!(found, Some(&(transfer, logical, group)), "I3");
            }
        }
        self.free(transfer);
    }

    fn free(&mut self, transfer: u128) {
        for owner in &mut self.owners {
            if *owner == Some(transfer) {
                *owner = None;
            }
        }
    }

    fn revoke(&mut self, transfer: TransferId) {
        self.receiving.cancel(transfer, &HandoffError::Aborted);
        self.revoked.push(transfer.0);
        if !self.receiving.is_revoking(transfer) {
            self.free(transfer.0);
        }
    }

    fn step(&mut self, op: u8, arg: u8) {
        let transfer = TransferId(u128::from(u32::from(arg) % TRANSFERS));
        let pick = |len: usize| (len > 0).then(|| arg as usize % len);
        match op {
            0 => {
                let _ =
                    self.receiving.expect(transfer, SEQUENCE, self.now + Duration::from_secs(5));
                self.carry_out();
            }
            1 => self.sending.ready(transfer, u32::from(arg / 16) % 2, 0..BLOCKS),
            2 if arg < 100 => {
                self.sending.ready(transfer, 0, 0..BLOCKS);
                self.sending.ready(transfer, 1, 0..BLOCKS);
                self.sending.commit(transfer, FIRST);
            }
            3 if arg < 30 => self.sending.abort(transfer),
            4 if arg < 30 => {
                self.revoke(transfer);
                self.carry_out();
            }
            5 if arg < 20 => {
                self.now += Duration::from_secs(u64::from(arg % 4));
                self.receiving.on_time(self.now);
                self.carry_out();
                self.sending.on_time(self.now);
            }
            6 => {
                if let Some(at) = pick(self.to_sender.len()) {
                    let message = self.to_sender[at].clone();
                    if arg % 8 != 7 {
                        self.to_sender.remove(at);
                    }
                    let result = self.sending.on_message(self.now, message);
                    assert_eq!(result, Ok(()), "I5");
                }
            }
            7 if arg == 9 => {
                pick(self.to_receiver.len()).map(|at| self.to_receiver.swap_remove(at));
            }
            7 if arg == 8 => {
                pick(self.to_sender.len()).map(|at| self.to_sender.swap_remove(at));
            }
            8 | 9 => self.send(),
            _ => {
                if let Some(at) = pick(self.to_receiver.len()) {
                    let wire = self.to_receiver.remove(at);
                    self.deliver(&wire);
                    if arg % 8 == 7 {
                        self.to_receiver.push(wire);
                    }
                }
            }
        }
    }

    /// The connection breaks: both sides clean up.
    fn close(&mut self) {
        self.sending.close(&HandoffError::gone("test"));
        while let Some(action) = self.sending.poll_action() {
            if let SendAction::Outcome(transfer, _) = action {
                *self.outcomes.entry(transfer.0).or_default() += 1;
            }
        }
        self.receiving.on_closed(CONN);
        self.carry_out();
        self.now += Duration::from_secs(60);
        self.receiving.on_time(self.now);
        self.carry_out();
    }
}

/// Runs the script; returns how many transfers were adopted or failed at the receiver.
fn play(one_sided: bool, script: &[(u8, u8)]) -> World {
    let mut world = World::new(one_sided);
    for id in 0..TRANSFERS {
        let table = (0..BLOCKS).map(BlockId).collect();
        let deadline = world.now + Duration::from_secs(6);
        world.sending.start(world.now, TransferId(id.into()), table, deadline);
    }
    for (op, arg) in script {
        world.step(*op, *arg);
    }
    world.close();
    assert!(world.owners.iter().all(Option::is_none), "I2: a block is never free again");
    assert!(world.receiving.transfers.is_empty(), "I2: a transfer is never forgotten");
    assert_eq!(world.outcomes.len(), TRANSFERS as usize, "every transfer has an outcome");
    assert!(world.outcomes.values().all(|times| *times == 1), "exactly one outcome");
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_invariants_hold(one_sided: bool, script in prop::collection::vec((0..14_u8, any::<u8>()), 0..250)) {
        play(one_sided, &script);
    }
}

#[test]
fn an_orderly_run_completes() {
    let mut script = vec![(0, 0), (0, 1), (0, 2), (2, 0), (2, 1), (2, 2)];
    script.extend((0..120).flat_map(|_| [(8, 0), (10, 0), (6, 0)]));
    for one_sided in [false, true] {
        let world = play(one_sided, &script);
        assert_eq!(world.ended.len(), TRANSFERS as usize);
        assert!(world.revoked.is_empty(), "nothing failed");
    }
}

#[test]
fn a_shared_pool_is_not_free_before_the_writers_last_word() {
    let mut world = World::new(true);
    let transfer = TransferId(0);
    world.sending.start(
        world.now,
        transfer,
        vec![BlockId(0); 3],
        world.now + Duration::from_secs(9),
    );
    world.step(0, 0);
    world.step(8, 0);
    world.step(10, 0);
    world.revoke(transfer);
    world.carry_out();
    assert!(world.receiving.is_revoking(transfer));
    let wrong = Message::Stopped { transfer, attempt: 99, error: HandoffError::Aborted };
    world.deliver(&Wire::Message(wrong));
    assert!(world.receiving.is_revoking(transfer), "another push's last word");
    let right = Message::Stopped { transfer, attempt: 1, error: HandoffError::Aborted };
    world.deliver(&Wire::Message(right));
    assert!(!world.receiving.is_revoking(transfer));
}

#[test]
fn shutting_the_gate_keeps_writers_out() {
    let gate = Gate::open();
    assert!(gate.enter().is_some());
    gate.shut();
    assert!(gate.enter().is_none());
}
