use super::*;
use proptest::prelude::*;

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut random = SplitMix64::new(seed);
    (0..len).map(|_| random.next_u64() as u8).collect()
}

fn on_tier(tier: Tier, from: &[u8], to: Option<&mut [u8]>) -> u64 {
    let to = to.map(<[u8]>::as_mut_ptr);
    let sum = Sum { from: from.as_ptr(), to, len: from.len(), result: Cell::new(0) };
    // SAFETY: only supported tiers are asked for; the slices are borrowed and as long.
    unsafe { launch(tier, &sum) };
    sum.result.get()
}

#[test]
fn every_tier_gives_the_same_for_every_length() {
    let all = bytes(3000, 5);
    for len in (0..200).chain([1023, 1024, 1025, 2047, 2048, 3000]) {
        let expected = on_tier(Tier::Portable, &all[..len], None);
        for tier in Tier::ALL.into_iter().filter(|tier| tier.is_supported()) {
            // With and without whole lines at the other end.
            for shift in [0, 1, 32, 64] {
                let mut to = vec![0; len + 128];
                let start = to.as_ptr().align_offset(64) + shift;
                let start = start.min(128);
                let sum = on_tier(tier, &all[..len], Some(&mut to[start..start + len]));
                assert_eq!(sum, expected, "{tier:?}, {len} bytes");
                assert_eq!(&to[start..start + len], &all[..len]);
                assert!(to[..start].iter().chain(&to[start + len..]).all(|byte| *byte == 0));
            }
            assert_eq!(on_tier(tier, &all[..len], None), expected);
        }
    }
}

#[test]
fn the_value_never_changes() {
    assert_eq!(checksum(b""), 5_578_693_140_249_019_460);
    assert_eq!(checksum(&bytes(4096, 1)), 17_747_810_516_270_636_665);
}

#[test]
fn zeros_are_not_nothing() {
    let sums: std::collections::BTreeSet<u64> =
        (0..500).map(|len| checksum(&vec![0; len])).collect();
    assert_eq!(sums.len(), 500);
}

#[test]
fn stripes_that_change_places_are_noticed() {
    let all = bytes(64 * 40, 3);
    let sum = checksum(&all);
    for (a, b) in (0..40).flat_map(|a| (0..a).map(move |b| (a, b))) {
        let mut swapped = all.clone();
        let (low, high) = swapped.split_at_mut(a * 64);
        low[b * 64..b * 64 + 64].swap_with_slice(&mut high[..64]);
        assert_ne!(checksum(&swapped), sum, "{a} and {b}");
    }
}

proptest! {
    #[test]
    fn what_changes_within_a_word_is_noticed(
        len in 1_usize..5000,
        at in any::<prop::sample::Index>(),
        change in 1_u64..,
    ) {
        let mut all = bytes(len, 9);
        let sum = checksum(&all);
        let word = at.index(len) / 8 * 8;
        let end = (word + 8).min(len);
        for (byte, change) in all[word..end].iter_mut().zip(change.to_le_bytes()) {
            *byte ^= change;
        }
        let same = change.to_le_bytes()[..end - word].iter().all(|byte| *byte == 0);
        prop_assert_eq!(checksum(&all) == sum, same);
    }

    #[test]
    fn what_is_lost_or_repeated_is_noticed(len in 2_usize..3000, at in any::<prop::sample::Index>()) {
        let all = bytes(len, 13);
        let at = at.index(len - 1);
        let mut less = all.clone();
        less.remove(at);
        prop_assert_ne!(checksum(&less), checksum(&all));
        let mut more = all.clone();
        more.insert(at, all[at]);
        prop_assert_ne!(checksum(&more), checksum(&all));
    }
}
