use super::*;
use std::os::unix::fs::PermissionsExt;

#[test]
fn is_private_and_leaves_nothing_behind() {
    let name = format!("estafette-test-{}", std::process::id());
    let dir = SocketDir::create(&std::env::temp_dir(), &name).unwrap();
    let mode = fs::metadata(&dir.0).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!(SocketDir::create(&std::env::temp_dir(), &name).is_err(), "it is somebody's already");
    fs::write(dir.socket(), "").unwrap();
    let path = dir.0.clone();
    drop(dir);
    assert!(!path.exists());
}
