//! One seed, one independent stream of random numbers for each purpose: a policy that draws more often does not
//! change the arrivals.

use estafette_types::SplitMix64;

/// What numbers are drawn for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// When requests come.
    Arrivals = 1,
    /// Ties and samples of the policy.
    Policy = 2,
    /// Which state updates are lost.
    Loss = 3,
    /// The synthetic trace.
    Synthetic = 4,
}

/// The stream of `seed` for `purpose`.
pub(crate) fn stream(seed: u64, purpose: Purpose) -> SplitMix64 {
    // Two rounds, since neighbouring seeds of SplitMix64 give overlapping streams.
    let mixed =
        SplitMix64::new(seed).next_u64() ^ (purpose as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
    SplitMix64::new(SplitMix64::new(mixed).next_u64())
}
