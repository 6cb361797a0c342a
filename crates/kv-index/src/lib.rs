//! The router's map from block hash to the workers that hold the block.
//!
//! Token blocks only, and exact: after evictions in the middle of a prefix, removals of what was never stored, clears
//! and restarts, [`KvIndex::matches`] gives for each worker how many leading blocks it holds.
//!
//! # Structure
//! One word of 8 bytes for each distinct block, whoever holds it, in an open-addressing table: 40 bits of the hash and
//! the number of a *holder set*. Holder sets are interned, since neighbouring blocks nearly always have the
//! same holders: a set of workers is stored once, a set of one not at all, and a lookup that finds the same number as
//! for the block before has nothing more to do.
//!
//! A lookup is one probe for each block until no worker is left. The probes do not depend on each other, so the CPU
//! overlaps their cache misses. No parent links are needed: the hash of a block stands for its whole prefix.
//!
//! # Truth
//! 10 more bits of the hash choose the table's segment, so blocks are told apart by 50 bits. Among 10^7 blocks the
//! chance of any pair that is taken for one is 4 %, among 10^6 it is 0.04 %. What that costs is a wrong prediction for
//! one prompt: the worker itself compares whole hashes.
//!
//! # Concurrency
//! Writers take turns. Readers wait for no writer: words are atomic, a block's word never moves inside an array of
//! words, and a segment that grows is copied to a new array, which a new *generation* of the table names. A reader
//! keeps the generation that it began with. The number of a holder set that is given up is used again in a later
//! *epoch* only, when no reader of this one or an earlier one is left. A lookup that runs beside writes sees each
//! block as it was at some moment of the lookup.
#![forbid(unsafe_code)]

mod index;
mod matches;
mod sets;
mod table;

pub use index::{KvIndex, WorkerSlot};
pub use matches::Matches;
