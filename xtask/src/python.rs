//! The Python environment of the client tests: a venv in the cache folder, made once for each content of
//! the requirements file.

use anyhow::{Context, Result, ensure};
use estafette_config::cache_dir;
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

const REQUIREMENTS: &str = "integration-tests/openai_client/requirements.txt";

/// The environment's interpreter.
pub(crate) fn environment(root: &Path) -> Result<PathBuf> {
    let requirements = root.join(REQUIREMENTS);
    let wanted = fs::read_to_string(&requirements).with_context(|| REQUIREMENTS)?;
    let dir = cache_dir()?.join("python");
    let python = dir.join("bin/python");
    let stamp = dir.join("requirements.txt");
    if python.exists() && fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(python);
    }
    fs::create_dir_all(&dir)?;
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))
        .context("cannot make a Python environment (is the venv module installed?)")?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(&requirements))?;
    fs::write(stamp, wanted)?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<()> {
    command.stdout(io::stderr());
    let name = format!("{command:?}");
    let status = command.status().with_context(|| format!("cannot run {name}"))?;
    ensure!(status.success(), "{name} failed: {status}");
    Ok(())
}
