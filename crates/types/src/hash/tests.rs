use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

#[test]
fn golden_value_is_the_same_everywhere() {
    let seed = HashSeed::new(b"model", "", "");
    let tokens: Vec<TokenId> = (0..33).collect();
    let hashes = block_hashes(seed, &tokens, 16);
    assert_eq!(hashes.len(), 2);
    assert_eq!(format!("{:?}", seed.0), GOLDEN[0]);
    assert_eq!(format!("{:?}", hashes[0]), GOLDEN[1]);
    assert_eq!(format!("{:?}", hashes[1]), GOLDEN[2]);
}

const GOLDEN: [&str; 3] = [
    "15b31ef56a9ac15b8b13afe7a87b5d96",
    "5966557c5eaf1a19537a23906776452b",
    "4793f8d5afc65e13dc94d2b25b8e3916",
];

#[test]
fn parts_of_the_seed_do_not_run_together() {
    assert_ne!(HashSeed::new(b"ab", "c", ""), HashSeed::new(b"a", "bc", ""));
    assert_ne!(HashSeed::new(b"a", "", "b"), HashSeed::new(b"a", "b", ""));
}

#[test]
fn a_changed_first_token_changes_every_hash() {
    let seed = HashSeed::new(b"m", "", "");
    let a: Vec<TokenId> = (0..64).collect();
    let mut b = a.clone();
    b[0] = 99;
    let (a, b) = (block_hashes(seed, &a, 16), block_hashes(seed, &b, 16));
    assert!(a.iter().zip(&b).all(|(a, b)| a != b));
}

#[test]
fn wire_bytes_round_trip_and_reject_other_lengths() {
    let hash = BlockHash(0x0102_0304);
    assert_eq!(BlockHash::from_bytes(&hash.to_bytes()), Some(hash));
    assert_eq!(BlockHash::from_bytes(&[0; 15]), None);
}

proptest! {
    /// Two token lists have equal hashes exactly as far as their blocks are equal.
    #[test]
    fn equal_hash_means_equal_prefix(
        tokens in vec(any::<TokenId>(), 0..200),
        change in (any::<prop::sample::Index>(), 1..=TokenId::MAX),
        block_size in 1_usize..40,
    ) {
        let seed = HashSeed::new(b"m", "", "");
        let hashes = block_hashes(seed, &tokens, block_size);
        prop_assert_eq!(hashes.len(), tokens.len() / block_size);
        let mut other = tokens.clone();
        let changed = if tokens.is_empty() { 0 } else { change.0.index(tokens.len()) };
        other.iter_mut().skip(changed).take(1).for_each(|token| *token ^= change.1);
        let others = block_hashes(seed, &other, block_size);
        for (block, (a, b)) in hashes.iter().zip(&others).enumerate() {
            prop_assert_eq!(a == b, block < changed / block_size, "block {}", block);
        }
    }

    /// A longer list begins with the hashes of a shorter one, and each block follows from the one before it alone.
    #[test]
    fn hashes_go_on_where_they_ended(
        tokens in vec(any::<TokenId>(), 0..200),
        cut in any::<prop::sample::Index>(),
        block_size in 1_usize..40,
    ) {
        let seed = HashSeed::new(b"m", "adapter", "salt");
        let hashes = block_hashes(seed, &tokens, block_size);
        let blocks = cut.index(hashes.len() + 1);
        let (front, back) = tokens.split_at(blocks * block_size);
        let first = block_hashes(seed, front, block_size);
        prop_assert_eq!(&hashes[..blocks], &first[..]);
        let parent = first.last().copied().map_or(seed, HashSeed);
        prop_assert_eq!(&hashes[blocks..], &block_hashes(parent, back, block_size)[..]);
    }

    /// Models, adapters and tenants share no block.
    #[test]
    fn seeds_keep_apart(
        a in (vec(any::<u8>(), 0..8), "[a-c]{0,3}", "[a-c]{0,3}"),
        b in (vec(any::<u8>(), 0..8), "[a-c]{0,3}", "[a-c]{0,3}"),
    ) {
        let hash = |(digest, adapter, salt): &(Vec<u8>, String, String)| {
            block_hashes(HashSeed::new(digest, adapter, salt), &[1, 2, 3], 3)
        };
        prop_assert_eq!(a == b, hash(&a) == hash(&b));
    }
}
