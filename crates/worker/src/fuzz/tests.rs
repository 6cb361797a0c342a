use super::*;
use estafette_fuzzing::drive;
use prost::Message;

#[test]
fn starts_of_legs() {
    let aggregated = v1::RunStart {
        prompt: (0..40).collect(),
        block_hashes: vec![3; 32].into(),
        max_tokens: 7,
        stop_token_ids: vec![2],
        timeout_ms: 1000,
        sampling: Some(v1::Sampling { top_p: Some(0.5), ..Default::default() }),
        leg: Some(v1::run_start::Leg::Aggregated(Default::default())),
        ..Default::default()
    };
    let transfer_id: prost::bytes::Bytes = vec![9; 16].into();
    let decode = v1::DecodeLeg { transfer_id: transfer_id.clone() };
    let place = Some(v1::KvEndpoint { tcp: "127.0.0.1:1".into(), ..Default::default() });
    let prefill = v1::PrefillLeg { transfer_id, decode: place };
    let with = |leg| v1::RunStart { leg: Some(leg), ..aggregated.clone() };
    let inputs = [
        [vec![1], aggregated.encode_to_vec()].concat(),
        [vec![1], with(v1::run_start::Leg::Decode(decode)).encode_to_vec()].concat(),
        [vec![0], with(v1::run_start::Leg::Prefill(prefill)).encode_to_vec()].concat(),
    ];
    let corpus: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    drive(leg_start, 6, &corpus);
}
