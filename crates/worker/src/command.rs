//! What the sockets ask of the engine's thread. One bounded queue: the thread sees everything in one order.

use estafette_proto::v1;
use estafette_types::{BlockHash, ErrorCode, Limits, SamplingParams, SequenceId, TokenId, TransferId};
use std::time::Instant;
use tokio::sync::mpsc;
use tonic::Status;

/// Where the tokens of one leg go. Its capacity holds the longest answer, so sending never waits.
pub(crate) type RunSender = mpsc::Sender<Result<v1::RunEvent, Status>>;

/// Where state updates of one subscriber go. One that does not keep up is cut off and comes back for a
/// fresh snapshot.
pub(crate) type StateSender = mpsc::Sender<Result<v1::StateUpdate, Status>>;

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
    /// The grace is over: end what still runs.
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
    /// Of the prompt's full blocks.
    pub hashes: Vec<BlockHash>,
    /// How tokens are chosen.
    pub params: SamplingParams,
    /// When it ends.
    pub limits: Limits,
    /// Which part of the request this worker runs.
    pub leg: Leg,
    /// The sequence is ended then.
    pub deadline: Instant,
    /// Where the tokens go.
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

/// The gRPC status for `code`: the stable code travels in the metadata.
pub fn status(code: ErrorCode, message: impl Into<String>) -> Status {
    let mut status = Status::new(code.grpc_status().into(), message);
    if let Ok(value) = code.as_str().parse() {
        status.metadata_mut().insert(estafette_proto::ERROR_CODE_KEY, value);
    }
    status
}
