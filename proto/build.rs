//! Compiles every `.proto` file of this folder with protox: no protoc to install.

use std::{env, fs, io, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut files: Vec<PathBuf> = fs::read_dir(".")?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<io::Result<Vec<_>>>()?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "proto"))
        .collect();
    files.sort();
    // The folder, so that a new file is noticed too.
    println!("cargo::rerun-if-changed=.");
    let descriptors = protox::compile(&files, ["."])?;
    #[expect(
        clippy::disallowed_methods,
        reason = "build scripts are told by environment variables"
    )]
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("estafette.bin"), prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
