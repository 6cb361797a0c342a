use super::*;
use crate::testing::Folder;

/// `printf %s sesame | sha256sum`
const SESAME: &str = "d0c04f4b1951e4aeaaec8223ed2039e542f3aae805a6fa7f6d794e5afff5d272";

fn hex(key: &str) -> String {
    Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn keys(text: &str) -> Result<Hashes, FileError> {
    parse("keys", text.as_bytes())
}

#[test]
fn each_key_of_the_file_is_let_in_and_no_other() {
    let text = format!(
        "# who may\n\n{}  -\n{} alice # until May\r\n",
        hex("one"),
        hex("two").to_uppercase()
    );
    let hashes = keys(&text).unwrap();
    assert_eq!(hashes.0.len(), 2);
    assert!(hashes.contain(b"one") && hashes.contain(b"two"));
    for wrong in ["", "On", "one ", "three", &hex("one")] {
        assert!(!hashes.contain(wrong.as_bytes()), "{wrong}");
    }
}

#[test]
fn what_the_shell_prints_is_what_the_file_takes() {
    assert_eq!(hex("sesame"), SESAME);
}

#[test]
fn a_line_that_is_no_hash_is_named_and_not_shown() {
    for text in [format!("{}\nsecret-key\n", hex("one")), format!("\n{}0", hex("one"))] {
        let error = keys(&text).unwrap_err().to_string();
        assert!(error.starts_with("keys, line 2: not a SHA-256"), "{error}");
        assert!(!error.contains("secret") && !error.contains(&hex("one")), "{error}");
    }
    let empty = keys("# none yet\n").unwrap_err().to_string();
    assert_eq!(empty, "keys holds no key: nobody would be let in");
}

#[test]
fn the_header_must_be_a_bearer_token() {
    assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
    assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
    for other in [&b""[..], b"Bearer", b"Bearer ", b"Bearer  ", b"Basic abc", b"abc"] {
        assert_eq!(bearer(other), None, "{other:?}");
    }
}

#[test]
fn missing_and_wrong_keys_are_told_apart_and_nothing_shows_them() {
    let folder = Folder::new(&std::env::temp_dir());
    let keys = ApiKeys::load(folder.write("keys", &hex("one"))).unwrap();
    assert_eq!(keys.check(None), Err(Denied::Missing));
    assert_eq!(keys.check(Some(b"Basic one")), Err(Denied::Missing));
    assert_eq!(keys.check(Some(b"Bearer two")), Err(Denied::Wrong));
    assert_eq!(keys.check(Some(b"Bearer one")), Ok(()));
    assert!(!format!("{keys:?}").contains(&hex("one")[..8]));
}
