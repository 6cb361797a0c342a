//! Messages to and from bytes. Every count is checked before anything is built from it.

use crate::message::{
    FRAME_BYTES_MAX, FirstToken, Hello, Message, PART_UNITS_MAX, PROMPT_BLOCKS_MAX, Part,
    RESEND_UNITS_MAX, RUNS_MAX, TTL_MAX,
};
use crate::{BlockRun, HandoffError, HandoffLayout, layout::FORMAT};
use estafette_kernels::KvLayout;
use estafette_proto::v1::{self, HandoffFaultKind as Kind, handoff_frame::Body};
use estafette_types::{Incarnation, TransferId};
use prost::Message as _;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// Tag of the field `checksum`, and with it the end of every frame.
const CHECKSUM_TAG: u8 = 15 << 3 | 1;
/// Bytes of that field.
pub(crate) const CHECKSUM_BYTES: usize = 9;

type Decoded<T> = Result<T, HandoffError>;

fn bad<T>(what: &str) -> Decoded<T> {
    Err(HandoffError::protocol(what))
}

/// The frame of `message`: length, then header. The bytes of a part are not in it.
pub(crate) fn encode(message: &Message) -> Vec<u8> {
    signed(&v1::HandoffFrame { body: Some(body_of(message)), checksum: None }.encode_to_vec())
}

/// `frame` with its length and its checksum.
pub(crate) fn signed(frame: &[u8]) -> Vec<u8> {
    let len = frame.len() + CHECKSUM_BYTES;
    let mut bytes = Vec::with_capacity(4 + len);
    bytes.extend_from_slice(&(len as u32).to_le_bytes());
    bytes.extend_from_slice(frame);
    bytes.push(CHECKSUM_TAG);
    bytes.extend_from_slice(&xxh3_64(frame).to_le_bytes());
    bytes
}

/// The length of the header that `prefix` announces.
///
/// # Errors
/// When it is larger than [`FRAME_BYTES_MAX`].
pub(crate) fn header_len(prefix: [u8; 4]) -> Decoded<usize> {
    let len = u32::from_le_bytes(prefix) as usize;
    if len > FRAME_BYTES_MAX { bad("a frame is too large") } else { Ok(len) }
}

/// The message in `header`, the frame without its length.
///
/// # Errors
/// [`HandoffError::Protocol`] when it is not one, is damaged, or leaves its limits.
pub(crate) fn decode(header: &[u8]) -> Decoded<Message> {
    let body = header.len().saturating_sub(CHECKSUM_BYTES);
    let (frame, checksum) = header.split_at(body);
    if checksum.first() != Some(&CHECKSUM_TAG) || checksum[1..] != xxh3_64(frame).to_le_bytes() {
        return bad("a frame whose checksum is wrong or missing");
    }
    let frame = v1::HandoffFrame::decode(frame)
        .map_err(|error| HandoffError::protocol(format!("unreadable frame: {error}")))?;
    match frame.body {
        Some(body) => message_of(body),
        None => bad("an empty frame"),
    }
}

fn body_of(message: &Message) -> Body {
    match message {
        Message::Hello(hello) => Body::Hello(hello_out(hello)),
        Message::Welcome { receiver, credit_bytes, pool_bytes } => {
            Body::Welcome(v1::HandoffWelcome {
                receiver_incarnation: receiver.0,
                credit_bytes: *credit_bytes,
                pool_bytes: *pool_bytes,
            })
        }
        Message::Reject(error) => Body::Reject(fault(error)),
        Message::Push { transfer, attempt, blocks, ttl } => Body::Push(v1::HandoffPush {
            transfer_id: id(*transfer),
            attempt: *attempt,
            blocks: *blocks,
            ttl_ms: millis(*ttl),
        }),
        Message::Grant { transfer, attempt, epoch, runs, units, ttl } => {
            Body::Grant(v1::HandoffGrant {
                transfer_id: id(*transfer),
                attempt: *attempt,
                epoch: *epoch,
                runs: runs.iter().map(run_out).collect(),
                unit_count: *units,
                ttl_ms: millis(*ttl),
            })
        }
        Message::Part(part) => Body::Part(v1::HandoffPart {
            transfer_id: id(part.transfer),
            epoch: part.epoch,
            group: part.group,
            first_block: part.first_block,
            checksums: part.checksums.clone(),
            round: part.round,
        }),
        Message::Ack { bytes } => Body::Ack(v1::HandoffAck { bytes: *bytes }),
        Message::Commit { transfer, epoch, first_token } => Body::Commit(v1::HandoffCommit {
            transfer_id: id(*transfer),
            epoch: *epoch,
            first_token: first_token.token,
            logprob: first_token.logprob,
        }),
        Message::Done { transfer, epoch } => {
            Body::Done(v1::HandoffDone { transfer_id: id(*transfer), epoch: *epoch })
        }
        Message::Resend { transfer, epoch, round, group, blocks } => {
            Body::Resend(v1::HandoffResend {
                transfer_id: id(*transfer),
                epoch: *epoch,
                round: *round,
                group: *group,
                blocks: blocks.clone(),
            })
        }
        Message::Failed { transfer, attempt, error } => Body::Failed(v1::HandoffFailed {
            transfer_id: id(*transfer),
            attempt: *attempt,
            fault: Some(fault(error)),
        }),
        Message::Stopped { transfer, attempt, error } => Body::Stopped(v1::HandoffStopped {
            transfer_id: id(*transfer),
            attempt: *attempt,
            fault: Some(fault(error)),
        }),
    }
}

fn message_of(body: Body) -> Decoded<Message> {
    Ok(match body {
        Body::Hello(hello) => Message::Hello(hello_in(hello)?),
        Body::Welcome(w) => Message::Welcome {
            receiver: Incarnation(w.receiver_incarnation),
            credit_bytes: w.credit_bytes,
            pool_bytes: w.pool_bytes,
        },
        Body::Reject(f) => Message::Reject(fault_in(Some(f))),
        Body::Push(p) => {
            if p.blocks == 0 || p.blocks > PROMPT_BLOCKS_MAX {
                return bad("a prompt of no or too many blocks");
            }
            Message::Push {
                transfer: id_in(&p.transfer_id)?,
                attempt: p.attempt,
                blocks: p.blocks,
                ttl: ttl(p.ttl_ms),
            }
        }
        Body::Grant(g) => grant_in(&g)?,
        Body::Part(p) => part_in(p)?,
        Body::Ack(a) => Message::Ack { bytes: a.bytes },
        Body::Commit(c) => Message::Commit {
            transfer: id_in(&c.transfer_id)?,
            epoch: c.epoch,
            first_token: FirstToken { token: c.first_token, logprob: c.logprob },
        },
        Body::Done(d) => Message::Done { transfer: id_in(&d.transfer_id)?, epoch: d.epoch },
        Body::Resend(r) => resend_in(r)?,
        Body::Failed(f) => Message::Failed {
            transfer: id_in(&f.transfer_id)?,
            attempt: f.attempt,
            error: fault_in(f.fault),
        },
        Body::Stopped(s) => Message::Stopped {
            transfer: id_in(&s.transfer_id)?,
            attempt: s.attempt,
            error: fault_in(s.fault),
        },
    })
}

fn grant_in(grant: &v1::HandoffGrant) -> Decoded<Message> {
    if grant.runs.len() > RUNS_MAX {
        return bad("a grant of too many runs");
    }
    Ok(Message::Grant {
        transfer: id_in(&grant.transfer_id)?,
        attempt: grant.attempt,
        epoch: grant.epoch,
        runs: grant.runs.iter().map(run_in).collect(),
        units: grant.unit_count,
        ttl: ttl(grant.ttl_ms),
    })
}

fn part_in(part: v1::HandoffPart) -> Decoded<Message> {
    let units = part.checksums.len();
    let end = part.first_block.checked_add(units as u32);
    if units == 0 || units > PART_UNITS_MAX || end.is_none_or(|end| end > PROMPT_BLOCKS_MAX) {
        return bad("a part of no or too many units");
    }
    Ok(Message::Part(Part {
        transfer: id_in(&part.transfer_id)?,
        epoch: part.epoch,
        group: part.group,
        first_block: part.first_block,
        checksums: part.checksums,
        round: part.round,
    }))
}

fn resend_in(resend: v1::HandoffResend) -> Decoded<Message> {
    if resend.blocks.is_empty() || resend.blocks.len() > RESEND_UNITS_MAX {
        return bad("a resend of no or too many units");
    }
    if resend.round == 0 || !resend.blocks.is_sorted_by(|a, b| a < b) {
        return bad("a resend without a round, or of blocks that do not ascend");
    }
    Ok(Message::Resend {
        transfer: id_in(&resend.transfer_id)?,
        epoch: resend.epoch,
        round: resend.round,
        group: resend.group,
        blocks: resend.blocks,
    })
}

fn hello_out(hello: &Hello) -> v1::HandoffHello {
    let layout = &hello.layout;
    v1::HandoffHello {
        version: hello.version,
        sender_incarnation: hello.sender.0,
        receiver_incarnation: hello.receiver.0,
        layout: Some(v1::HandoffLayout {
            format: FORMAT,
            num_blocks: layout.kv.num_blocks,
            block_size: layout.kv.block_size,
            layers: layout.kv.layers,
            kv_heads: layout.kv.kv_heads,
            head_dim: layout.kv.head_dim,
            layers_per_group: layout.layers_per_group,
            model_digest: layout.model_digest.clone().into(),
            numerics_id: layout.numerics_id.clone(),
        }),
        boot_id: hello.boot_id.clone(),
    }
}

fn hello_in(hello: v1::HandoffHello) -> Decoded<Hello> {
    let Some(layout) = hello.layout else { return bad("a hello without a layout") };
    if layout.format != FORMAT {
        return Err(HandoffError::LayoutMismatch { field: "format".into() });
    }
    Ok(Hello {
        version: hello.version,
        sender: Incarnation(hello.sender_incarnation),
        receiver: Incarnation(hello.receiver_incarnation),
        layout: HandoffLayout {
            kv: KvLayout {
                num_blocks: layout.num_blocks,
                block_size: layout.block_size,
                layers: layout.layers,
                kv_heads: layout.kv_heads,
                head_dim: layout.head_dim,
            },
            layers_per_group: layout.layers_per_group,
            model_digest: layout.model_digest.to_vec(),
            numerics_id: layout.numerics_id,
        },
        boot_id: hello.boot_id,
    })
}

fn fault(error: &HandoffError) -> v1::HandoffFault {
    let (kind, detail, block, group) = match error {
        HandoffError::LayoutMismatch { field } => (Kind::LayoutMismatch, field.as_str(), 0, 0),
        HandoffError::StalePeer => (Kind::StalePeer, "", 0, 0),
        HandoffError::Refused(why) => (Kind::Refused, why.as_str(), 0, 0),
        HandoffError::Expired => (Kind::Expired, "", 0, 0),
        HandoffError::ChecksumMismatch { block, group } => {
            (Kind::ChecksumMismatch, "", *block, *group)
        }
        HandoffError::PeerGone(how) => (Kind::PeerGone, how.as_str(), 0, 0),
        HandoffError::Protocol(what) => (Kind::Protocol, what.as_str(), 0, 0),
        HandoffError::Aborted => (Kind::Aborted, "", 0, 0),
        HandoffError::OutOfBlocks => (Kind::OutOfBlocks, "", 0, 0),
    };
    let detail = detail.chars().take(256).collect();
    v1::HandoffFault { kind: kind.into(), detail, block, group }
}

fn fault_in(fault: Option<v1::HandoffFault>) -> HandoffError {
    let fault = fault.unwrap_or_default();
    match fault.kind() {
        Kind::LayoutMismatch => HandoffError::LayoutMismatch { field: fault.detail },
        Kind::StalePeer => HandoffError::StalePeer,
        Kind::Refused => HandoffError::Refused(fault.detail),
        Kind::Expired => HandoffError::Expired,
        Kind::ChecksumMismatch => {
            HandoffError::ChecksumMismatch { block: fault.block, group: fault.group }
        }
        Kind::PeerGone => HandoffError::PeerGone(fault.detail),
        Kind::Protocol | Kind::Unspecified => HandoffError::Protocol(fault.detail),
        Kind::Aborted => HandoffError::Aborted,
        Kind::OutOfBlocks => HandoffError::OutOfBlocks,
    }
}

fn id(transfer: TransferId) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&transfer.to_bytes())
}

fn id_in(bytes: &[u8]) -> Decoded<TransferId> {
    match TransferId::from_bytes(bytes) {
        Some(transfer) => Ok(transfer),
        None => bad("a transfer id that is not 16 bytes"),
    }
}

fn run_out(run: &BlockRun) -> v1::HandoffRun {
    v1::HandoffRun {
        first_logical: run.first_logical,
        first_physical: run.first_physical,
        count: run.count,
    }
}

fn run_in(run: &v1::HandoffRun) -> BlockRun {
    BlockRun {
        first_logical: run.first_logical,
        first_physical: run.first_physical,
        count: run.count,
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.min(TTL_MAX).as_millis()).unwrap_or(u32::MAX)
}

fn ttl(millis: u32) -> Duration {
    Duration::from_millis(millis.into()).min(TTL_MAX)
}

#[cfg(test)]
mod tests;
