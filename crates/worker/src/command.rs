//! What the sockets ask of the engine's thread. One bounded queue: the thread sees everything in one order.

use estafette_proto::v1;
use estafette_types::{BlockHash, Limits, SamplingParams, SequenceId, TokenId, TransferId};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tonic::Status;

/// Puts commands into the engine's queue.
pub type CommandSender<T> = SyncSender<Command<T>>;

/// Until a full queue is tried again. The engine's thread empties it after each step.
const FULL_RETRY: Duration = Duration::from_millis(2);

/// One entry of the queue. `T` is what the role's transport reports.
#[derive(Debug)]
pub enum Command<T> {
    /// A leg of a request arrived.
    Start(Box<LegStart>),
    /// Nobody wants the sequence any more.
    Cancel(SequenceId),
    /// A router wants the state stream.
    Subscribe(mpsc::Sender<Result<v1::StateUpdate, Status>>),
    /// Take no new work, finish what runs.
    Drain,
    /// The grace is over: what still runs goes on elsewhere.
    Stop,
    /// The transport of KV blocks reports.
    Transport(T),
}

/// A leg, checked as far as a socket can.
#[derive(Debug)]
pub struct LegStart {
    /// Minted by the service.
    pub id: SequenceId,
    /// Token ids, below the size of the vocabulary.
    pub prompt: Vec<TokenId>,
    /// The beginning of the answer, which the client has already; the same limit.
    pub output: Vec<TokenId>,
    /// Of the full blocks of prompt and output.
    pub hashes: Vec<BlockHash>,
    /// How tokens are chosen.
    pub params: SamplingParams,
    /// When it ends.
    pub limits: Limits,
    /// Which part of the request this worker runs.
    pub leg: Leg,
    /// The sequence is ended then.
    pub deadline: Instant,
    /// Where the tokens go. Its capacity holds the longest answer, so sending never waits.
    pub events: mpsc::Sender<Result<v1::RunEvent, Status>>,
}

/// Which part of a request a worker runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Leg {
    /// Prefill and decode.
    Aggregated,
    /// Prefill, the first token, and a push of the KV to `decode`.
    Prefill {
        /// The same in both legs.
        transfer: TransferId,
        /// Where the KV goes.
        decode: v1::KvEndpoint,
    },
    /// Decode after the KV has arrived.
    Decode {
        /// The same in both legs.
        transfer: TransferId,
    },
}

/// Puts `command` into the queue, waiting for room; false when the engine has stopped.
pub(crate) async fn put<T>(commands: &CommandSender<T>, mut command: Command<T>) -> bool {
    loop {
        match commands.try_send(command) {
            Ok(()) => return true,
            Err(TrySendError::Disconnected(_)) => return false,
            Err(TrySendError::Full(back)) => command = back,
        }
        tokio::time::sleep(FULL_RETRY).await;
    }
}

/// Carries what a transport reports into the engine's queue, in order, until either ends. Nothing is lost when the
/// queue is full: the transport's own bounds hold the rest. Must be called inside a tokio runtime.
pub fn forward<T: Send + 'static>(mut reports: mpsc::Receiver<T>, commands: CommandSender<T>) {
    tokio::spawn(async move {
        while let Some(report) = reports.recv().await {
            if !put(&commands, Command::Transport(report)).await {
                return;
            }
        }
    });
}
