//! GPT-2's way to write any byte as a printable character.

/// The character that stands for `byte`: itself when it is printable, else one from 256 on, in order.
pub(crate) fn char_of(byte: u8) -> char {
    if is_printable(byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|b| !is_printable(*b)).count() as u32;
    char::from_u32(256 + rank).unwrap_or('\u{fffd}')
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

/// Characters back to bytes.
#[derive(Debug)]
pub(crate) struct ByteTable(Vec<Option<u8>>);

impl ByteTable {
    pub(crate) fn new() -> Self {
        let mut table = vec![None; 512];
        for byte in 0..=255 {
            table[char_of(byte) as usize] = Some(byte);
        }
        Self(table)
    }

    /// The bytes that `token` stands for. A character that stands for none means itself.
    pub(crate) fn bytes_of(&self, token: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(token.len());
        for c in token.chars() {
            match self.0.get(c as usize).copied().flatten() {
                Some(byte) => out.push(byte),
                None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        out
    }
}
