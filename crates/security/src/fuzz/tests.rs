use super::*;
use estafette_fuzzing::drive;

#[test]
fn headers() {
    drive(authorization, 12, &[b"Bearer abc", b"bearer  x ", b"Basic QQ==", b""]);
}

#[test]
fn key_files() {
    let hash = "0f".repeat(32);
    let file = format!("# keys\n{hash}  -\n\n{hash} alice # x\r\n");
    drive(key_file, 13, &[file.as_bytes(), b"secret", b"#"]);
}
