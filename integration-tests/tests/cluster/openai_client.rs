//! The official `openai` Python package against a running cluster.

use crate::shared;
use std::path::PathBuf;
use std::process::Command;

#[test]
fn the_official_client_is_content() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let python = estafette_config::cache_dir().unwrap().join("python/bin/python");
    assert!(python.is_file(), "{} is missing: cargo xtask python", python.display());
    let cluster = shared();
    let output = Command::new(python)
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "--base-url"])
        .arg(format!("http://{}/v1", cluster.http_address))
        .arg(root.join("openai_client"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}
