//! The block manager: who holds which block of the KV pool, and what can be shared.
//!
//! Pure bookkeeping over block ids; the bytes are elsewhere. Blocks are allocated all or nothing, shared by
//! chained hash (vLLM's automatic prefix caching), kept after their last user has gone, and evicted least
//! recently used first, the tail of a sequence before its head, so that what stays is always a usable prefix.
#![forbid(unsafe_code)]

mod lru;
mod manager;

pub use manager::{BlockManager, BlockTable, IntegrityError, OutOfBlocks};
