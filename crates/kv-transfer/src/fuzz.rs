//! Entry points of the fuzzers: what a peer may send.

use crate::wire::{CHECKSUM_BYTES, decode, encode, header_len, signed};

/// Frames one after the other, each a length and a header, as they come from a socket.
pub fn hand_off_frames(mut bytes: &[u8]) {
    while let Some((prefix, rest)) = bytes.split_first_chunk::<4>() {
        let Ok(len) = header_len(*prefix) else { return };
        let Some((header, rest)) = rest.split_at_checked(len) else { return };
        frame(header);
        bytes = rest;
    }
}

/// As it is, and with the checksum that it should have: hardly any other gets past that.
fn frame(header: &[u8]) {
    read(header);
    read(&signed(&header[..header.len().saturating_sub(CHECKSUM_BYTES)])[4..]);
}

/// What can be read can be written, and is the same then.
fn read(header: &[u8]) {
    let Ok(message) = decode(header) else { return };
    let bytes = encode(&message);
    let again = decode(&bytes[4..]);
    // In text, since a number that is none equals nothing.
    assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<_, crate::HandoffError>(message)));
}

#[cfg(test)]
mod tests;
