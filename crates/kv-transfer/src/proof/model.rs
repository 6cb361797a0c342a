//! An exhaustive check of `Sending` and `Receiving` against each other in a small world.
//!
//! Every order of events is walked through: the delivery of each message, every single store, what the
//! engines say, timers. Faults (aborts, broken connections, crashes, repeats, damage, timers that fire
//! before anything else) are a budget of the world, so that the number of states is finite; without a
//! fault left, every path ends in a quiet world. What the shells do one at a time is one step here, so a
//! store may be late exactly where it may be late in `connection.rs` and `serve.rs`.
//!
//! The explorer is forty lines of our own and not the crate `stateright`: the machines are driven through
//! their production interface, with time as an argument, so an actor framework would only be in between.
//! Credits are ample here; the random tests of `receiving` and `simulation` bound them.

mod explore;
mod receiver;
mod scenario;
mod sender;
mod serving;
mod tests;
mod world;
