//! Every message survives the wire, and no bytes break the reader.

use super::*;
use estafette_kernels::KvLayout;
use proptest::prelude::*;

fn layout() -> HandoffLayout {
    HandoffLayout {
        kv: KvLayout { num_blocks: 9, block_size: 16, layers: 5, kv_heads: 2, head_dim: 8 },
        layers_per_group: 2,
        model_digest: vec![3; 32],
        numerics_id: "n".into(),
    }
}

fn messages() -> Vec<Message> {
    let transfer = TransferId(u128::MAX - 5);
    let ttl = Duration::from_millis(1500);
    let first_token = FirstToken { token: 0, logprob: None };
    let run = BlockRun { first_logical: 1, first_physical: 7, count: 2 };
    let checksums = vec![u64::MAX, 0];
    let errors = [
        HandoffError::LayoutMismatch { field: "layers".into() },
        HandoffError::StalePeer,
        HandoffError::Refused("no".into()),
        HandoffError::Expired,
        HandoffError::ChecksumMismatch { block: 4, group: 2 },
        HandoffError::gone("closed"),
        HandoffError::Protocol("odd".into()),
        HandoffError::Aborted,
        HandoffError::OutOfBlocks,
    ];
    let mut all = vec![
        Message::Hello(Hello {
            version: 1,
            sender: Incarnation(1),
            receiver: Incarnation(u64::MAX),
            layout: layout(),
            boot_id: "b".into(),
        }),
        Message::Welcome { receiver: Incarnation(2), credit_bytes: 1 << 40, pool_bytes: 9 },
        Message::Push { transfer, attempt: 2, blocks: 3, ttl },
        Message::Grant { transfer, attempt: 2, epoch: 4, runs: vec![run], units: 6, ttl },
        Message::Part(Part { transfer, epoch: 4, group: 1, first_block: 2, round: 3, checksums }),
        Message::Ack { bytes: 12 },
        Message::Commit { transfer, epoch: 4, first_token },
        Message::Done { transfer, epoch: 4 },
        Message::Resend { transfer, epoch: 4, round: 1, group: 2, blocks: vec![0, 7] },
    ];
    for error in errors {
        all.push(Message::Reject(error.clone()));
        all.push(Message::Failed { transfer, attempt: 0, error: error.clone() });
        all.push(Message::Stopped { transfer, attempt: 9, error });
    }
    all
}

#[test]
fn every_message_survives_the_wire() {
    for message in messages() {
        let frame = encode(&message);
        let len = header_len(frame[..4].try_into().expect("four")).expect("small");
        assert_eq!(len, frame.len() - 4);
        assert_eq!(decode(&frame[4..]), Ok(message));
    }
}

#[test]
fn large_counts_are_refused() {
    let transfer = TransferId(1);
    let run = BlockRun { first_logical: 0, first_physical: 0, count: 1 };
    let runs = vec![run; RUNS_MAX + 1];
    let many = |first_block, units| {
        Message::Part(Part {
            transfer,
            epoch: 1,
            group: 0,
            first_block,
            round: 0,
            checksums: vec![0; units],
        })
    };
    let resend = |round, blocks| Message::Resend { transfer, epoch: 1, round, group: 0, blocks };
    let ttl = Duration::ZERO;
    for wrong in [
        Message::Push { transfer, attempt: 2, blocks: 0, ttl },
        Message::Push { transfer, attempt: 2, blocks: PROMPT_BLOCKS_MAX + 1, ttl },
        Message::Grant { transfer, attempt: 2, epoch: 1, runs, units: 1, ttl },
        many(0, 0),
        many(0, PART_UNITS_MAX + 1),
        many(u32::MAX, 1),
        resend(1, Vec::new()),
        resend(1, (0..=RESEND_UNITS_MAX as u32).collect()),
        resend(0, vec![1]),
        resend(1, vec![2, 2]),
    ] {
        assert!(matches!(decode(&encode(&wrong)[4..]), Err(HandoffError::Protocol(_))));
    }
    assert!(header_len((FRAME_BYTES_MAX as u32 + 1).to_le_bytes()).is_err());
}

#[test]
fn the_largest_grant_fits_a_frame() {
    let run = BlockRun { first_logical: u32::MAX, first_physical: u32::MAX, count: u32::MAX };
    let grant = Message::Grant {
        transfer: TransferId(1),
        attempt: u64::MAX,
        epoch: u64::MAX,
        runs: vec![run; RUNS_MAX],
        units: u32::MAX,
        ttl: TTL_MAX,
    };
    assert!(encode(&grant).len() <= FRAME_BYTES_MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
        let _ = decode(&signed(&bytes)[4..]);
    }

    #[test]
    fn no_damage_breaks_the_reader(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte: u8) {
        let all = messages();
        let frame = encode(&all[which.index(all.len())]);
        let mut body = frame[4..frame.len() - CHECKSUM_BYTES].to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        let _ = decode(&signed(&body)[4..]);
    }

    #[test]
    fn every_flipped_bit_is_noticed(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0..8) {
        let all = messages();
        let mut frame = encode(&all[which.index(all.len())]).split_off(4);
        let at = at.index(frame.len());
        frame[at] ^= 1_u8 << bit;
        assert!(matches!(decode(&frame), Err(HandoffError::Protocol(_))));
    }
}
