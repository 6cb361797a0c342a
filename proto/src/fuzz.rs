//! Entry points of the fuzzers: messages from peers, and what they are turned into.

use crate::{hashes_from_bytes, hashes_to_bytes, v1};
use estafette_types::{FinishReason, LoadRecord, Role, SamplingParams, TokenLogprob, Usage};
use prost::Message;

/// The first byte chooses the message, the rest is the message.
pub fn conversions(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 6 {
        0 => sampling(bytes),
        1 => state_update(bytes),
        2 => worker_info(bytes),
        3 => run_event(bytes),
        4 => generate_request(bytes),
        _ => hashes(bytes),
    }
}

fn sampling(bytes: &[u8]) {
    let Ok(wire) = v1::Sampling::decode(bytes) else { return };
    if let Ok(params) = SamplingParams::try_from(wire) {
        assert!(params.validate().is_ok(), "what is taken is valid");
        let again = SamplingParams::try_from(v1::Sampling::from(&params));
        assert_eq!(again, Ok(params));
    }
}

fn state_update(bytes: &[u8]) {
    match v1::StateUpdate::decode(bytes).ok().and_then(|update| update.body) {
        Some(v1::state_update::Body::Snapshot(chunk)) => {
            hashes(&chunk.block_hashes);
            load(chunk.load.unwrap_or_default());
        }
        Some(v1::state_update::Body::Delta(delta)) => {
            drop(delta.events());
            load(delta.load.unwrap_or_default());
        }
        Some(v1::state_update::Body::Tick(_)) | None => {}
    }
}

fn load(wire: v1::Load) {
    let record = LoadRecord::from(wire);
    assert_eq!(LoadRecord::from(v1::Load::from(record)), record);
}

fn worker_info(bytes: &[u8]) {
    let Ok(beat) = v1::Heartbeat::decode(bytes) else { return };
    if let Some(info) = beat.info {
        drop(Role::try_from(info.role()));
    }
}

fn run_event(bytes: &[u8]) {
    match v1::RunEvent::decode(bytes).ok().and_then(|event| event.event) {
        Some(v1::run_event::Event::Token(token)) => {
            let logprob: Option<TokenLogprob> = token.token_logprob();
            let again = v1::Token::new(token.index, token.id, logprob.as_ref());
            assert_eq!(again.id, token.id);
        }
        Some(v1::run_event::Event::Finished(finished)) => {
            drop(FinishReason::try_from(finished.reason()));
            finished.usage.map(Usage::from);
        }
        None => {}
    }
}

fn generate_request(bytes: &[u8]) {
    let Ok(request) = v1::GenerateRequest::decode(bytes) else { return };
    drop(SamplingParams::try_from(request.sampling.unwrap_or_default()));
}

fn hashes(bytes: &[u8]) {
    if let Ok(hashes) = hashes_from_bytes(bytes) {
        assert_eq!(&hashes_to_bytes(&hashes)[..], bytes);
    }
}

#[cfg(test)]
mod tests;
