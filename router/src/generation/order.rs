//! Puts the tokens of both legs in order: each index exactly once.
//!
//! The prefill worker sends index 0, the decode worker the rest, over different connections: index 1 may overtake index
//! 0. After a failed hand-off the decode worker starts again at 0: what was delivered already is dropped.

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

    /// As it is for the same answer from other workers: what was delivered stays so, what came too early comes again.
    pub(super) fn resumed(self) -> Self {
        Self { next: self.next, ..Self::default() }
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
