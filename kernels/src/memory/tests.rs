use super::*;

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
fn a_shared_pool_is_seen_by_both_sides_and_cannot_shrink() {
    let pool = KvMemory::shared(1 << 16).unwrap();
    let fd = pool.fd().unwrap().try_clone_to_owned().unwrap();
    let other = KvMemory::from_fd(fd, 1 << 16).unwrap();
    // SAFETY: this test is alone.
    unsafe {
        pool.slice_mut(100..104).copy_from_slice(b"relay"[..4].as_ref());
        assert_eq!(other.slice(100..104), b"rela");
    }
    let fd = pool.fd().unwrap().try_clone_to_owned().unwrap();
    assert!(KvMemory::from_fd(fd.try_clone().unwrap(), 1 << 17).is_err(), "too small");
    assert!(File::from(fd).set_len(10).is_err(), "sealed");
    let unsealed = File::from(rustix::fs::memfd_create("x", MemfdFlags::CLOEXEC).unwrap());
    unsealed.set_len(4096).unwrap();
    assert!(KvMemory::from_fd(unsealed.into(), 4096).is_err(), "it could shrink");
}

#[test]
#[should_panic(expected = "inside the pool")]
fn a_range_outside_is_refused() {
    let pool = KvMemory::anonymous(4096).unwrap();
    // SAFETY: refused before anything is touched.
    let _ = unsafe { pool.slice(4000..5000) };
}
