//! Puts the tokens of both legs in order: each index exactly once.
//!
//! The prefill worker sends the first index, the decode worker the rest, over different connections: the second may
//! overtake the first. After a failed hand-off the decode worker sends the first one too: what was delivered already is
//! dropped.

use estafette_proto::v1::Token;
use std::collections::BTreeMap;

/// Tokens that may wait for an earlier one. Only the token of the prefill leg can be late, by less than the time that the
/// decode leg takes for so many steps.
const WAITING_MAX: usize = 1024;

/// A token that can never become deliverable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// The index that is missing.
    pub(super) missing: u32,
}

/// Which index is next, and what came too early.
#[derive(Debug, Default)]
pub(super) struct Order {
    next: u32,
    /// The next one, when it is there: nearly always the only token that is.
    head: Option<Token>,
    early: BTreeMap<u32, Token>,
}

impl Order {
    /// Tokens delivered so far.
    pub(super) fn delivered(&self) -> u32 {
        self.next
    }

    /// For an answer of which `delivered` tokens came from other workers.
    pub(super) fn after(delivered: u32) -> Self {
        Self { next: delivered, ..Self::default() }
    }

    /// Takes a token; [`Order::pop`] then gives what can be delivered.
    ///
    /// # Errors
    /// When too many tokens wait for one that does not come.
    pub(super) fn push(&mut self, token: Token) -> Result<(), Gap> {
        if token.index == self.next {
            self.head.get_or_insert(token);
        } else if token.index > self.next {
            self.early.entry(token.index).or_insert(token);
        }
        if self.early.len() > WAITING_MAX { Err(Gap { missing: self.next }) } else { Ok(()) }
    }

    /// The next token, if it is there.
    pub(super) fn pop(&mut self) -> Option<Token> {
        let token = self.head.take()?;
        self.next += 1;
        self.head = self.early.remove(&self.next);
        Some(token)
    }

    /// No token will come any more.
    ///
    /// # Errors
    /// When some still wait for one that is missing.
    pub(super) fn finish(&self) -> Result<(), Gap> {
        if self.head.is_none() && self.early.is_empty() {
            Ok(())
        } else {
            Err(Gap { missing: self.next })
        }
    }
}

#[cfg(test)]
mod tests;
