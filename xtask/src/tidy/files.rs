//! Rules about the files that git tracks.

use anyhow::{Context, Result};
use std::{fs, path::Path, process::Command};

const FILE_BYTES_MAX: u64 = 1_000_000;

/// Crates with `unsafe` code, and why: kernels (vector instructions, raw pool memory), the transports of
/// kv-transfer (writes into granted blocks), gguf (maps the file).
const UNSAFE_CRATES: &[&str] = &["kernels/", "crates/kv-transfer/", "crates/gguf/"];

/// Text that belongs to somebody's machine. Written in pieces so that this file does not find itself.
const STRAY: &[&[&str]] = &[
    &["/wo", "rk/"],
    &["/ro", "ot/"],
    &["/ho", "me/"],
    &["pypi", ".org"],
    &["python", "hosted.org"],
    &["crates", ".io/"],
    &["npmjs", ".org"],
];

/// Marks of unfinished work, in pieces for the same reason.
const UNFINISHED: &[&[&str]] = &[&["TO", "DO"], &["FIX", "ME"], &["XX", "X:"]];

pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let listed = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root)
        .output()
        .context("cannot run git ls-files")?;
    let names = String::from_utf8(listed.stdout).context("a file name is not UTF-8")?;
    let mut problems = Vec::new();
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        let Ok(bytes) = fs::read(root.join(name)) else { continue };
        problems.extend(check_file(name, &bytes));
    }
    Ok(problems)
}

fn check_file(name: &str, bytes: &[u8]) -> Vec<String> {
    let mut problems = Vec::new();
    if bytes.len() as u64 > FILE_BYTES_MAX {
        problems.push(format!("{name} has {} bytes: nothing over 1 MB in git", bytes.len()));
    }
    if name.ends_with("clippy.toml") && name != "clippy.toml" {
        problems.push(format!("{name} would replace the workspace's clippy.toml"));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return problems };
    if name.ends_with("src/lib.rs") || name.ends_with("src/main.rs") {
        problems.extend(check_unsafe(name, text));
    }
    if name == "Cargo.lock" {
        return problems;
    }
    for (number, line) in text.lines().enumerate() {
        if let Some(word) = contains_any(line, STRAY) {
            problems.push(format!("{name}:{}: names {word}", number + 1));
        }
        if name.ends_with(".rs") && contains_any(line, UNFINISHED).is_some() {
            problems.push(format!("{name}:{}: marks unfinished work", number + 1));
        }
    }
    problems
}

fn check_unsafe(name: &str, text: &str) -> Option<String> {
    let allowed = UNSAFE_CRATES.iter().any(|prefix| name.starts_with(prefix));
    (!allowed && !text.contains("#![forbid(unsafe_code)]"))
        .then(|| format!("{name} lacks #![forbid(unsafe_code)]"))
}

fn contains_any(line: &str, words: &[&[&str]]) -> Option<String> {
    words.iter().map(|pieces| pieces.concat()).find(|word| line.contains(word.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_finds_its_breach() {
        let stray = ["/wo", "rk/main"].concat();
        assert_eq!(check_file("a.md", stray.as_bytes()).len(), 1);
        assert_eq!(check_file("crates/x/src/lib.rs", b"//! x").len(), 1);
        assert_eq!(check_file("crates/x/clippy.toml", b"").len(), 1);
        assert_eq!(check_file("a.bin", &vec![0xff; 1_000_001]).len(), 1);
        assert_eq!(check_file("a.rs", ["// TO", "DO"].concat().as_bytes()).len(), 1);
        assert!(check_file("kernels/src/lib.rs", b"//! kernels").is_empty());
    }
}
