//! Inputs that are nearly right: what gets past the first check of a parser.

use estafette_types::SplitMix64;

/// Numbers at which code breaks.
const EDGES: [u64; 10] =
    [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, 0x1_0000_0000, i64::MAX as u64, 1 << 63, u64::MAX];
/// The same as text, with others that parsers of numbers meet.
const WORDS: [&str; 14] = [
    "0",
    "-1",
    "1e999",
    "-0.0",
    "NaN",
    "18446744073709551616",
    "9223372036854775807",
    "0.0000000000000000000000001",
    "null",
    "\"\"",
    "[]",
    "{}",
    "\\u0000",
    "\u{feff}\u{1f600}",
];
/// Changes to one input.
const CHANGES_MAX: u64 = 6;

/// An input of at most `bytes_max` bytes: random, or one of `corpus` with a few changes.
pub(crate) fn input(rng: &mut SplitMix64, corpus: &[&[u8]], bytes_max: usize) -> Vec<u8> {
    if corpus.is_empty() || rng.below(16) == 0 {
        let len = rng.below(64);
        return (0..len).map(|_| rng.next_u64() as u8).collect();
    }
    let mut bytes = pick(rng, corpus).to_vec();
    for _ in 0..=rng.below(CHANGES_MAX) {
        change(rng, &mut bytes, corpus);
        bytes.truncate(bytes_max);
    }
    bytes
}

fn pick<'a>(rng: &mut SplitMix64, corpus: &[&'a [u8]]) -> &'a [u8] {
    corpus[rng.below(corpus.len() as u64) as usize]
}

/// A place in `bytes`, its end included.
fn place(rng: &mut SplitMix64, bytes: &[u8]) -> usize {
    rng.below(bytes.len() as u64 + 1) as usize
}

/// Two places in order, at most 64 bytes apart.
fn span(rng: &mut SplitMix64, bytes: &[u8]) -> std::ops::Range<usize> {
    let start = place(rng, bytes);
    let len = rng.below(64) as usize;
    start..bytes.len().min(start + len)
}

fn change(rng: &mut SplitMix64, bytes: &mut Vec<u8>, corpus: &[&[u8]]) {
    let at = place(rng, bytes);
    match rng.below(9) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << rng.below(8);
            }
        }
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = rng.next_u64() as u8;
            }
        }
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(span(rng, bytes))),
        4 => {
            let again = bytes[span(rng, bytes)].to_vec();
            bytes.splice(at..at, again);
        }
        5 => {
            let other = pick(rng, corpus);
            let part = other[span(rng, other)].to_vec();
            bytes.splice(at..at, part);
        }
        6 => overwrite(rng, bytes, at),
        7 => {
            let word = WORDS[rng.below(WORDS.len() as u64) as usize];
            let end = bytes.len().min(at + rng.below(4) as usize);
            bytes.splice(at..end, word.bytes());
        }
        _ => number(rng, bytes),
    }
}

/// An edge as 1, 2, 4 or 8 bytes, little-endian.
fn overwrite(rng: &mut SplitMix64, bytes: &mut [u8], at: usize) {
    let edge = EDGES[rng.below(EDGES.len() as u64) as usize].to_le_bytes();
    let len = 1 << rng.below(4);
    for (byte, value) in bytes.iter_mut().skip(at).zip(&edge[..len]) {
        *byte = *value;
    }
}

/// Another number in the place of one that is written in digits.
fn number(rng: &mut SplitMix64, bytes: &mut Vec<u8>) {
    let from = place(rng, bytes);
    let digit = |byte: &u8| byte.is_ascii_digit();
    let Some(start) = bytes.iter().skip(from).position(digit).map(|i| from + i) else { return };
    let len = bytes[start..].iter().take_while(|byte| digit(byte)).count();
    let edge = EDGES[rng.below(EDGES.len() as u64) as usize].to_string();
    bytes.splice(start..start + len, edge.bytes());
}

#[cfg(test)]
mod tests;
