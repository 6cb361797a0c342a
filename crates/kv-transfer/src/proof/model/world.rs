//! The state of the small world, and which steps it can take.

use super::receiver::{Leg, ReceiverSide};
use super::scenario::Scenario;
use super::sender::{Conn, Push};
use super::serving::Gone;
use crate::message::Message;
use crate::proof::invariants::one_verdict::{Side, Verdicts};
use crate::proof::invariants::{Violation, no_leak};
use crate::wire::encode;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::Xxh3;

pub(super) const PUSH_TIME: Duration = Duration::from_secs(8);
pub(super) const LEG_TIME: Duration = Duration::from_secs(10);
/// Connections that a world may see.
const CONNS_MAX: usize = 3;

/// One thing that happens. Numbers are places in the lists of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A decode leg comes.
    Expect(usize),
    /// The decode engine takes its next event.
    Engine,
    /// The decode engine gives a leg up.
    Cancel(usize),
    /// The prefill engine begins a push, says the next thing about it, or gives it up.
    Start(usize),
    Say(usize),
    Abort(usize),
    /// The sender's task of a connection does one thing, or takes a message in.
    Act(usize),
    Hear(usize),
    /// The receiver's task of a connection goes on with a part, or takes the next frame in.
    Take(usize),
    /// A side's timer fires.
    ReceiverTimer,
    SenderTimer(usize),
    /// The sender closes the connection; the receiver comes to its end; the receiver wants to leave it.
    Close(usize),
    End(usize),
    Break(usize),
    /// The network loses the connection and what is on it.
    Lose(usize),
    CrashReceiver,
    CrashSender,
    /// A message arrives twice.
    Repeat(usize),
    RepeatDown(usize),
    /// The next unit of the part that the sender is at is damaged.
    Damage(usize),
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) scenario: Arc<Scenario>,
    pub(super) now: Instant,
    pub(super) receiver: ReceiverSide,
    pub(super) conns: Vec<Conn>,
    pub(super) pushes: Vec<Push>,
    pub(super) verdicts: Verdicts,
    pub(super) faults: u8,
}

impl World {
    pub(super) fn new(scenario: Scenario) -> Self {
        let count = scenario.transfers.len();
        Self {
            now: Instant::now(),
            receiver: ReceiverSide::new(&scenario, 0, vec![Leg::Absent; count]),
            conns: Vec::new(),
            pushes: vec![Push::Unborn; count],
            verdicts: Verdicts::default(),
            faults: scenario.faults,
            scenario: Arc::new(scenario),
        }
    }

    /// A copy that shares no gate with the original.
    pub(super) fn fork(&self) -> Self {
        let mut copy = self.clone();
        for task in copy.conns.iter_mut().map(|conn| &mut conn.task) {
            if let Some(gate) = task.placement_mut().and_then(|p| p.gate.as_mut()) {
                *gate = copy.receiver.machine.gate_like(&self.receiver.machine, gate);
            }
        }
        copy
    }

    /// Two worlds with the same fingerprint have the same future.
    pub(super) fn fingerprint(&self) -> u128 {
        let mut state = Xxh3::new();
        (self.now, &self.receiver, &self.conns, &self.pushes).hash(&mut state);
        (&self.verdicts, self.faults).hash(&mut state);
        state.digest128()
    }

    /// What can happen without a fault and without waiting.
    pub(super) fn regular_steps(&self) -> Vec<Step> {
        let mut steps = vec![Step::Engine];
        for which in 0..self.pushes.len() {
            steps.extend([Step::Expect(which), Step::Start(which), Step::Say(which)]);
        }
        for conn in 0..self.conns.len() {
            steps.extend([Step::Act(conn), Step::Hear(conn), Step::Take(conn), Step::End(conn)]);
            steps.push(Step::Close(conn));
        }
        steps
    }

    /// What happens only when time passes.
    pub(super) fn timer_steps(&self) -> Vec<Step> {
        let senders = (0..self.conns.len()).map(Step::SenderTimer);
        std::iter::once(Step::ReceiverTimer).chain(senders).collect()
    }

    /// What goes wrong, while the budget lasts.
    pub(super) fn fault_steps(&self) -> Vec<Step> {
        let mut steps = vec![Step::CrashReceiver, Step::CrashSender];
        for which in 0..self.pushes.len() {
            steps.extend([Step::Cancel(which), Step::Abort(which)]);
        }
        for conn in 0..self.conns.len() {
            steps.extend([Step::Close(conn), Step::Break(conn), Step::Lose(conn)]);
            steps.extend([Step::Repeat(conn), Step::RepeatDown(conn), Step::Damage(conn)]);
        }
        steps
    }

    /// False when `step` is surely impossible: saves a copy of the world.
    pub(super) fn may(&self, step: Step) -> bool {
        let running = |push: usize| matches!(self.pushes[push], Push::Running { .. });
        match step {
            Step::Expect(leg) => self.receiver.legs[leg] == Leg::Absent,
            Step::Engine => self.receiver.has_events(),
            Step::Cancel(leg) => matches!(self.receiver.legs[leg], Leg::Waiting { .. }),
            Step::Start(push) => self.pushes[push] == Push::Unborn,
            Step::Say(push) | Step::Abort(push) => running(push),
            Step::Act(conn) => self.conns[conn].has_work(self.now),
            Step::Hear(conn) | Step::RepeatDown(conn) => !self.conns[conn].down.is_empty(),
            Step::Take(conn) => self.conns[conn].has_frames(),
            Step::Repeat(conn) => !self.conns[conn].up.is_empty(),
            Step::ReceiverTimer => self.receiver.machine.next_wakeup().is_some(),
            Step::SenderTimer(conn) => self.conns[conn].sending.next_wakeup().is_some(),
            Step::Close(conn) | Step::Lose(conn) => self.conns[conn].sender_open,
            Step::End(conn) | Step::Break(conn) => self.conns[conn].receiver_end != Gone::Yes,
            Step::Damage(conn) => self.conns[conn].is_storing(),
            Step::CrashReceiver | Step::CrashSender => true,
        }
    }

    /// Takes `step`; false when it is not possible here, and then the world is spoilt.
    pub(super) fn take(&mut self, step: Step, fault: bool) -> Result<bool, Violation> {
        match step {
            Step::Expect(leg) => self.expect(leg),
            Step::Engine => self.engine(),
            Step::Cancel(leg) => self.cancel(leg),
            Step::Start(push) => Ok(self.start(push, CONNS_MAX)),
            Step::Say(push) => Ok(self.say(push)),
            Step::Abort(push) => Ok(self.abort(push)),
            Step::Act(conn) => self.act(conn),
            Step::Hear(conn) => self.hear(conn, false),
            Step::Take(conn) => self.take_up(conn, false),
            Step::ReceiverTimer => self.receiver_timer(),
            Step::SenderTimer(conn) => Ok(self.sender_timer(conn)),
            // Without a reason it is a fault.
            Step::Close(conn) if fault != self.must_close(conn) => self.close(conn),
            Step::Close(_) => Ok(false),
            Step::End(conn) => self.end(conn),
            Step::Break(conn) => self.break_off(conn),
            Step::Lose(conn) => Ok(self.lose(conn)),
            Step::CrashReceiver => Ok(self.crash_receiver()),
            Step::CrashSender => Ok(self.crash_sender()),
            Step::Repeat(conn) => self.take_up(conn, true),
            Step::RepeatDown(conn) => self.hear(conn, true),
            Step::Damage(conn) => self.damage(conn),
        }
    }

    /// Nothing more will happen.
    pub(super) fn check_quiet(&self) -> Result<(), Violation> {
        no_leak::check(&self.receiver.ledger)?;
        self.verdicts.check()
    }

    /// Every machine is empty again after a run without a fault.
    pub(super) fn all_completed(&self) -> bool {
        let over = |leg: &Leg| matches!(leg, Leg::Over { completed: true });
        self.receiver.legs.iter().all(over)
            && (0..self.pushes.len() as u64).all(|push| self.verdicts.given(Side::Sender, push))
    }
}

/// Messages as their bytes.
pub(super) fn hash_messages<'a, H: Hasher>(
    messages: impl Iterator<Item = &'a Message>,
    state: &mut H,
) {
    for message in messages {
        encode(message).hash(state);
    }
    0xff_u8.hash(state);
}
