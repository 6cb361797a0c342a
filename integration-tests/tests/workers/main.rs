//! Both workers without a router, in one process: real engines, real sockets, a stand-in for membership.

mod counts;
mod drain;
mod failures;
mod fake_prefill;
mod inputs;
mod room;
mod same_tokens;
