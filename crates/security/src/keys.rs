//! Keys of clients.
//!
//! The file holds SHA-256 hashes, so that whoever reads it, or a backup of it, has no key. Keys are random and long, other
//! than passwords: a slow hash would add nothing. Since hashes are compared, and all of them in constant time, how long it
//! takes tells nothing about a key.

use crate::FileError;
use crate::pem::{bytes, name};
use crate::watched::{Source, Watched};
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;

const HASH_BYTES: usize = 32;
const SCHEME: &[u8] = b"bearer ";

/// The keys that are let in. Clones share them.
#[derive(Clone, Debug)]
pub struct ApiKeys(Arc<Watched<KeyFile>>);

/// Why a client is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Denied {
    /// It brings no key.
    #[error("an API key is needed: send it as `Authorization: Bearer KEY`")]
    Missing,
    /// Nobody here knows the key.
    #[error("the API key is not valid")]
    Wrong,
}

impl ApiKeys {
    /// Reads the file: one hash in hex for each line, then anything that helps to remember whose it is; `#` begins a
    /// comment.
    ///
    /// # Errors
    /// When it cannot be read, or a line is no hash.
    pub fn load(file: PathBuf) -> Result<Self, FileError> {
        Ok(Self(Arc::new(Watched::new(KeyFile(file), Instant::now())?)))
    }

    /// Whether a client with this `Authorization` header is let in.
    ///
    /// # Errors
    /// When it is not.
    pub fn check(&self, authorization: Option<&[u8]>) -> Result<(), Denied> {
        let key = authorization.and_then(bearer).ok_or(Denied::Missing)?;
        if self.0.get(Instant::now()).contain(key) { Ok(()) } else { Err(Denied::Wrong) }
    }
}

/// The key in an `Authorization` header.
pub(crate) fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = header.split_at_checked(SCHEME.len())?;
    let key = key.trim_ascii();
    (scheme.eq_ignore_ascii_case(SCHEME) && !key.is_empty()).then_some(key)
}

#[derive(Debug)]
struct KeyFile(PathBuf);

/// Hashes of the keys.
pub(crate) struct Hashes(Vec<[u8; HASH_BYTES]>);

impl fmt::Debug for Hashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl Hashes {
    fn contain(&self, key: &[u8]) -> bool {
        let found: [u8; HASH_BYTES] = Sha256::digest(key).into();
        let any = self.0.iter().fold(Choice::from(0), |any, hash| any | hash.ct_eq(&found));
        any.into()
    }
}

impl Source for KeyFile {
    type Value = Hashes;
    const WHAT: &'static str = "the API keys";

    fn files(&self) -> Vec<&Path> {
        vec![&self.0]
    }

    fn read(&self) -> Result<Hashes, FileError> {
        parse(&name(&self.0), &bytes(&self.0)?)
    }
}

pub(crate) fn parse(path: &str, text: &[u8]) -> Result<Hashes, FileError> {
    let mut hashes = Vec::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
        let Some(word) = line.split(u8::is_ascii_whitespace).next().filter(|word| !word.is_empty())
        else {
            continue;
        };
        let wrong = || FileError::NotAHash { path: path.to_owned(), line: index + 1 };
        hashes.push(hash(word).ok_or_else(wrong)?);
    }
    if hashes.is_empty() {
        return Err(FileError::NoKeys { path: path.to_owned() });
    }
    Ok(Hashes(hashes))
}

fn hash(hex: &[u8]) -> Option<[u8; HASH_BYTES]> {
    if hex.len() != 2 * HASH_BYTES {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut hash = [0; HASH_BYTES];
    for (byte, pair) in hash.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(hash)
}

#[cfg(test)]
mod tests;
