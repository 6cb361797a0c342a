//! What fmt and clippy do not check: the shape of the house.

mod files;
mod graph;

use anyhow::{Result, bail};
use std::path::Path;

/// Runs every check and reports every problem.
pub(crate) fn run(root: &Path) -> Result<()> {
    let mut problems = graph::check(root)?;
    problems.extend(files::check(root)?);
    for problem in &problems {
        eprintln!("tidy: {problem}");
    }
    match problems.len() {
        0 => {
            println!("tidy: all good");
            Ok(())
        }
        n => bail!("{n} problems"),
    }
}
