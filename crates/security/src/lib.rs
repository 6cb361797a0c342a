//! Who may talk to us: certificates between the processes of a cluster, certificates towards clients, keys of clients.
//!
//! Between processes both sides show a certificate of the cluster's own authority ([`Tls`]). All files are read again when
//! they change ([`watched`]); a new file that cannot be used leaves the old one in force.
#![forbid(unsafe_code)]

mod dial;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod grpc;
mod keys;
mod pem;
mod public;
mod stream;
#[cfg(feature = "testing")]
pub mod testing;
mod tls;
mod verify;
mod watched;

pub use dial::{causes, channel, connect, is_refusal, reason, wants_tls};
pub use error::{FileError, HandshakeError, explained};
pub use grpc::incoming;
pub use keys::{ApiKeys, Denied};
pub use public::PublicTls;
pub use stream::{Accepted, ServerStream};
pub use tls::{PEER_NAME, Tls, speaks_tls};
/// The TLS library, so that users need not name its version.
pub use tokio_rustls::{client, rustls, server};
