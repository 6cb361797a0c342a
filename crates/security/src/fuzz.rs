//! Entry points of the fuzzers: what clients send before anybody knows who they are, and files.

use crate::keys::{bearer, parse};

/// An `Authorization` header.
pub fn authorization(bytes: &[u8]) {
    if let Some(key) = bearer(bytes) {
        assert!(!key.is_empty() && bytes.trim_ascii_end().ends_with(key));
    }
}

/// A file of keys. What is wrong with it never shows a line.
pub fn key_file(bytes: &[u8]) {
    match parse("keys", bytes) {
        Ok(hashes) => assert_ne!(format!("{hashes:?}"), "0 keys"),
        Err(error) => assert!(error.to_string().starts_with("keys")),
    }
}

#[cfg(test)]
mod tests;
