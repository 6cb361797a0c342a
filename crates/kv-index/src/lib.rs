//! The router's map from block hash to the workers that hold the block.
//!
//! Token blocks only, exact at every moment: after evictions in the middle of a prefix, removals of what was never
//! stored, clears and restarts, [`KvIndex::matches`] gives for each worker how many leading blocks it holds.
//!
//! # Structure
//! One open-addressing table entry of 12 bytes for each distinct block, whoever holds it: 64 bits of the hash and the
//! number of a *holder set*. Holder sets are interned, since neighbouring blocks nearly always have the same holders:
//! a set of workers is stored once, and a lookup that finds the same number as for the block before has nothing more
//! to do. A set of one worker needs no storage at all. So a (block, worker) pair costs 12 bytes over the table's load
//! (between 0.7 and 0.875), divided by the number of holders.
//!
//! A lookup is one probe for each block until no worker is left. The probes do not depend on each other, so the CPU
//! overlaps their cache misses. It needs no parent links: the hash of a block stands for its whole prefix, and events
//! do not name parents.
//!
//! # Truth
//! The key is the low half of the 128-bit hash. Two blocks whose keys are equal are taken for one; among 10^8 blocks
//! the chance of any such pair is about 3·10^-4, and what it costs is a wrong prediction: the worker itself compares
//! whole hashes.
//!
//! # Concurrency
//! All methods take `&self`. Writers take a lock for [`BATCH`] blocks at a time and a growing table moves one of its
//! segments at a time, so a reader waits for microseconds, not for a snapshot.
#![forbid(unsafe_code)]

mod index;
mod matches;
mod sets;
mod table;

pub use index::{BATCH, KvIndex, WorkerSlot};
pub use matches::Matches;
