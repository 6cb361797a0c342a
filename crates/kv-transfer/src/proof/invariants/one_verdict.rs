//! Each side gives exactly one verdict for each transfer: never two, and in the end not none.

use super::Violation;
use std::collections::BTreeMap;

/// Who gives the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Side {
    Sender,
    Receiver,
}

/// The verdicts so far. A number names one push at the sender, one leg at the receiver.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Verdicts(BTreeMap<(Side, u64), usize>);

impl Verdicts {
    /// A push or leg begins: from now on it owes a verdict.
    pub(crate) fn owe(&mut self, side: Side, which: u64) {
        self.0.insert((side, which), 0);
    }

    /// Its process died, and with it everybody who waited.
    pub(crate) fn forgive(&mut self, side: Side, which: u64) {
        self.0.remove(&(side, which));
    }

    pub(crate) fn give(&mut self, side: Side, which: u64) -> Result<(), Violation> {
        let Some(verdicts) = self.0.get_mut(&(side, which)) else {
            return Err(Violation::Verdicts { side, which, verdicts: 1 });
        };
        *verdicts += 1;
        match *verdicts {
            1 => Ok(()),
            verdicts => Err(Violation::Verdicts { side, which, verdicts }),
        }
    }

    /// Whether a verdict is still to come.
    pub(crate) fn owes(&self, side: Side, which: u64) -> bool {
        self.0.get(&(side, which)) == Some(&0)
    }

    #[cfg(test)]
    pub(crate) fn given(&self, side: Side, which: u64) -> bool {
        self.0.get(&(side, which)).is_some_and(|verdicts| *verdicts > 0)
    }

    /// Nothing more will happen.
    pub(crate) fn check(&self) -> Result<(), Violation> {
        match self.0.iter().find(|(_, verdicts)| **verdicts != 1) {
            Some(((side, which), verdicts)) => {
                Err(Violation::Verdicts { side: *side, which: *which, verdicts: *verdicts })
            }
            None => Ok(()),
        }
    }
}
