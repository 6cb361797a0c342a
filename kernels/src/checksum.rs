//! The checksum of KV blocks on their way, alone or while they are copied.
//!
//! Eight 64-bit lanes over stripes of 64 bytes, after XXH3's long inputs (Collet 2019), with keys of our own. It notices
//! bytes that changed by accident, for certain when all of them are in one word of eight; whoever changes bytes on purpose is TLS's matter.

use crate::simd::Simd;
use crate::tier::{Kernel, Tier, launch};
use estafette_types::SplitMix64;
use std::cell::Cell;

/// Bytes that are taken at once.
const STRIPE: usize = 64;
/// Stripes after which the lanes are scrambled.
const ROUND: usize = 16;
const PRIME: u64 = 0x9FB2_1C65_1E98_DF25;
const SEED: u64 = 0x6573_7461_6665_7474;

/// One key for each stripe of a round, and one to scramble with.
static KEYS: [[u64; 8]; ROUND + 1] = keys();

const fn keys() -> [[u64; 8]; ROUND + 1] {
    let mut random = SplitMix64::new(SEED);
    let mut keys = [[0; 8]; ROUND + 1];
    let mut i = 0;
    while i < (ROUND + 1) * 8 {
        keys[i / 8][i % 8] = random.next_u64();
        i += 1;
    }
    keys
}

/// The checksum of `bytes`.
pub fn checksum(bytes: &[u8]) -> u64 {
    let sum = Sum { from: bytes.as_ptr(), to: None, len: bytes.len(), result: Cell::new(0) };
    // SAFETY: the processor has what was detected; the bytes are borrowed, and nothing is written.
    unsafe { launch(Tier::detect(), &sum) };
    sum.result.get()
}

/// Copies `from` to `to` past the caches, since the next to read it is another process, and returns the checksum of what
/// was copied. Other threads see the copy as soon as they see anything that is written after it.
///
/// # Panics
/// When the lengths differ.
pub fn copy_with_checksum(from: &[u8], to: &mut [u8]) -> u64 {
    assert_eq!(from.len(), to.len(), "a copy is as long as its source");
    let to = Some(to.as_mut_ptr());
    let sum = Sum { from: from.as_ptr(), to, len: from.len(), result: Cell::new(0) };
    // SAFETY: the processor has what was detected; both slices are borrowed, as long, and apart.
    unsafe { launch(Tier::detect(), &sum) };
    sum.result.get()
}

struct Sum {
    from: *const u8,
    to: Option<*mut u8>,
    len: usize,
    result: Cell<u64>,
}

impl Kernel for Sum {
    /// # Safety
    /// `from` can be read, and `to` written if it is there, for `len` bytes.
    #[inline(always)]
    unsafe fn run<S: Simd>(&self) {
        // SAFETY: the caller's promise; streaming stores want whole lines.
        let lanes = unsafe {
            match self.to {
                None => self.stripes::<S>(|_, _| ()),
                Some(to) if to.addr().is_multiple_of(STRIPE) => {
                    let lanes = self.stripes::<S>(|at, stripe| S::stream(to.add(at), stripe));
                    S::streamed();
                    lanes
                }
                Some(to) => self.stripes::<S>(|at, stripe| S::store_bytes(to.add(at), stripe)),
            }
        };
        self.result.set(fold(lanes, self.len));
    }
}

impl Sum {
    /// The lanes after all stripes; each whole stripe and its place are given to `put`, the rest is copied here.
    #[inline(always)]
    unsafe fn stripes<S: Simd>(&self, put: impl Fn(usize, S::I)) -> [u64; 8] {
        let key = |i: usize| KEYS[i].as_ptr().cast::<u8>();
        let whole = self.len / STRIPE;
        // SAFETY: every stripe below `whole` lies inside the `len` bytes, and so does the rest.
        unsafe {
            let mut lanes = S::load_bytes(key(ROUND));
            for i in 0..whole {
                let stripe = S::load_bytes(self.from.add(i * STRIPE));
                put(i * STRIPE, stripe);
                lanes = S::mix(lanes, stripe, S::load_bytes(key(i % ROUND)));
                if i % ROUND == ROUND - 1 {
                    lanes = S::scramble(lanes, S::load_bytes(key(ROUND)));
                }
            }
            let mut rest = [0_u8; STRIPE];
            let (done, left) = (whole * STRIPE, self.len % STRIPE);
            std::ptr::copy_nonoverlapping(self.from.add(done), rest.as_mut_ptr(), left);
            if let Some(to) = self.to {
                std::ptr::copy_nonoverlapping(rest.as_ptr(), to.add(done), left);
            }
            let stripe = S::load_bytes(rest.as_ptr());
            lanes = S::mix(lanes, stripe, S::load_bytes(key(whole % ROUND)));
            let mut out = [0_u64; 8];
            S::store_bytes(out.as_mut_ptr().cast(), lanes);
            out
        }
    }
}

/// One number from eight lanes and the length.
#[inline(always)]
fn fold(lanes: [u64; 8], len: usize) -> u64 {
    let multiply = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let start = (len as u64).wrapping_mul(PRIME);
    let pairs = lanes.as_chunks::<2>().0.iter().zip(KEYS[0].as_chunks::<2>().0);
    let sum = pairs.fold(start, |sum, ([a, b], [x, y])| sum.wrapping_add(multiply(a ^ x, b ^ y)));
    let mixed = (sum ^ (sum >> 37)).wrapping_mul(PRIME);
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests;
