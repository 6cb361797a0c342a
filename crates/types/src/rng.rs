//! Seeded randomness. Nothing in Estafette draws from a global generator.

/// SplitMix64 (Steele, Lea and Flood, 2014): one 64-bit state, good enough to spread ids and ties.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// A generator that always gives the same numbers for the same seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// The next 128 bits, for ids.
    pub fn next_u128(&mut self) -> u128 {
        (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64())
    }

    /// A number in `0..bound` (0 when `bound` is 0), by Lemire's multiplication.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

/// The uniform number in `[0, 1)` that belongs to this seed and position: a counter generator, so the
/// noise of a token depends on nothing but its place, whoever samples it and in whatever batch.
pub fn unit_f32(seed: u64, position: u64) -> f32 {
    let bits = mix(mix(seed ^ 0x6a09_e667_f3bc_c909).wrapping_add(mix(position)));
    (bits >> 40) as f32 / (1u64 << 24) as f32
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
