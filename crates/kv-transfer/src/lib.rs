//! The hand-off: KV blocks go from a prefill worker's pool into a decode worker's, while prefill runs.
//!
//! The decode side owns the memory and issues a *write grant*; the prefill side announces layer groups of
//! blocks as they become final, and pushes them when it has the grant. Completion is counted unit by unit,
//! in any order, each unit with its checksum. A block is free again only when nobody can write to it.
//!
//! The protocol is two pure state machines (`sending`, `receiving`); sockets, tasks and clocks are in
//! [`Pusher`] and [`Receiver`]. How bytes reach the other pool is behind one trait (`link`): over TCP the
//! receiver reads them in place, over shared memory the sender stores them. `docs/design/002-handoff.md`
//! describes messages and states.
#![deny(unsafe_code)]

mod accept;
mod bitmap;
mod connection;
mod error;
mod faults;
#[doc(hidden)]
pub mod fuzz;
mod layout;
mod link;
mod message;
mod pool;
#[cfg(any(test, feature = "proof"))]
mod proof;
mod pusher;
mod receiver;
mod receiving;
mod runs;
mod same_host;
mod sending;
mod serve;
mod stream;
mod tls_socket;
mod wire;

pub use error::HandoffError;
pub use faults::{Fault, FaultPlan, When};
pub use layout::HandoffLayout;
pub use message::FirstToken;
#[cfg(any(test, feature = "proof"))]
pub use proof::simulation::{Simulated, simulate};
pub use pusher::{
    PushHandle, PushOutcome, PushRequest, Pusher, PusherFull, PusherLimits, TransportChoice,
};
pub use receiver::{Receiver, Revocation};
pub use receiving::{ReceiverEvent, ReceiverLimits};
pub use runs::BlockRun;
pub use sending::PushStats;
