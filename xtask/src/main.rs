//! Tasks of the repository that are more than one cargo call: `cargo xtask tidy | model | test | python`.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool talks")]

mod model;
mod python;
mod test;
mod tidy;

use anyhow::{Result, bail};
use std::path::PathBuf;

const USAGE: &str = "\
usage: cargo xtask TASK
  tidy     check what fmt and clippy do not: dependency directions, unsafe code, file sizes, stray paths
  model    get the default model into the cache folder and print its path
  python   make the Python environment of the client tests and print its interpreter
  test     run every test of the workspace and print one closing count";

fn main() -> Result<()> {
    let task = std::env::args().nth(1);
    match task.as_deref() {
        Some("tidy") => tidy::run(&root()),
        Some("model") => {
            println!("{}", model::fetch()?.display());
            Ok(())
        }
        Some("python") => {
            println!("{}", python::environment(&root())?.display());
            Ok(())
        }
        Some("test") => test::run(&root()),
        _ => bail!("{USAGE}"),
    }
}

/// The folder of the workspace.
fn root() -> PathBuf {
    let manifest_dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest_dir.parent().map_or(manifest_dir.clone(), PathBuf::from)
}
