use super::*;

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
