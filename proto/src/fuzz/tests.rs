use super::*;
use estafette_fuzzing::drive;

fn message(kind: u8, message: &impl Message) -> Vec<u8> {
    [vec![kind], message.encode_to_vec()].concat()
}

#[test]
fn messages_of_peers() {
    let params =
        SamplingParams { temperature: 0.7, logprobs: Some(3), ..SamplingParams::default() };
    let load = v1::Load { free_blocks: 3, ..v1::Load::default() };
    let delta = v1::Delta {
        stored: vec![7; 32].into(),
        cleared: true,
        load: Some(load),
        ..v1::Delta::default()
    };
    let body = Some(v1::state_update::Body::Delta(delta));
    let chunk =
        v1::SnapshotChunk { block_hashes: vec![1; 16].into(), last: true, ..Default::default() };
    let snapshot = Some(v1::state_update::Body::Snapshot(chunk));
    let token = TokenLogprob { logprob: -1.0, top: Vec::new() };
    let event = Some(v1::run_event::Event::Token(v1::Token::new(1, 2, Some(&token))));
    let finished = Some(v1::run_event::Event::Finished(v1::Finished::default()));
    let info = v1::WorkerInfo { role: v1::Role::Decode.into(), ..Default::default() };
    let prompt = Some(v1::generate_request::Prompt::Text("hi".into()));
    let inputs = [
        message(0, &v1::Sampling::from(&params)),
        message(1, &v1::StateUpdate { body, seq: 1, ..Default::default() }),
        message(1, &v1::StateUpdate { body: snapshot, ..Default::default() }),
        message(2, &v1::Heartbeat { info: Some(info) }),
        message(3, &v1::RunEvent { event }),
        message(3, &v1::RunEvent { event: finished }),
        message(4, &v1::GenerateRequest { prompt, ..Default::default() }),
        [vec![5], vec![9; 48]].concat(),
    ];
    let corpus: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    drive(conversions, 2, &corpus);
}
