use super::*;
use std::os::unix::fs::{FileExt, MetadataExt};

const LAYOUT: KvLayout =
    KvLayout { num_blocks: 5, block_size: 16, layers: 3, kv_heads: 2, head_dim: 16 };

#[test]
fn places_do_not_overlap_and_fill_the_pool() {
    let mut seen = vec![false; LAYOUT.total_bytes()];
    for block in 0..5 {
        for layer in 0..3 {
            for head in 0..2 {
                for at in [0, LAYOUT.value_offset()] {
                    let start = LAYOUT.key_at(block, layer, head) + at;
                    for byte in &mut seen[start..start + LAYOUT.head_bytes()] {
                        assert!(!std::mem::replace(byte, true));
                    }
                }
            }
        }
    }
    assert!(seen.into_iter().all(|byte| byte));
}

#[test]
fn what_another_process_writes_into_a_shared_pool_is_seen_and_its_size_is_sealed() {
    let pool = KvMemory::shared(1 << 16).unwrap();
    let file = File::from(pool.fd().unwrap().try_clone_to_owned().unwrap());
    file.write_all_at(b"rela", 100).unwrap();
    // SAFETY: this test is alone.
    assert_eq!(unsafe { pool.slice(100..104) }, b"rela");
    assert!(file.write_all_at(b"rela", 1 << 16).is_err(), "it cannot grow");
    assert!(file.set_len(10).is_err(), "it cannot shrink");
}

#[test]
fn a_cache_has_all_its_memory_from_the_start() {
    let layout = KvLayout { num_blocks: 1000, ..LAYOUT };
    let cache = KvCache::new(layout, true).unwrap();
    let file = File::from(cache.memory().fd().unwrap().try_clone_to_owned().unwrap());
    assert!(file.metadata().unwrap().blocks() * 512 >= layout.total_bytes() as u64);
}

#[test]
fn a_pool_whose_size_overflows_is_an_error() {
    let huge = KvLayout { num_blocks: u32::MAX, layers: u32::MAX, ..LAYOUT };
    assert_eq!(huge.total_bytes(), usize::MAX);
    for layout in [huge, KvLayout { head_dim: u32::MAX, block_size: u32::MAX, ..huge }] {
        for shared in [false, true] {
            let error = KvCache::new(layout, shared).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        }
    }
}

#[test]
#[should_panic(expected = "inside the pool")]
fn a_range_outside_is_refused() {
    let pool = KvMemory::anonymous(4096).unwrap();
    // SAFETY: refused before anything is touched.
    let _ = unsafe { pool.slice(4000..5000) };
}
