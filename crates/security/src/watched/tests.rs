use super::*;
use crate::pem::{bytes, name};
use crate::testing::Folder;
use std::path::PathBuf;

/// A file that must hold a number.
#[derive(Debug)]
struct Number(PathBuf);

impl Source for Number {
    type Value = u32;
    const WHAT: &'static str = "the numbers";

    fn files(&self) -> Vec<&Path> {
        vec![&self.0]
    }

    fn read(&self) -> Result<u32, FileError> {
        let text = String::from_utf8(bytes(&self.0)?).unwrap();
        let wrong = || FileError::NoKeys { path: name(&self.0) };
        text.trim().parse().map_err(|_| wrong())
    }
}

fn folder() -> Folder {
    Folder::new(&std::env::temp_dir())
}

#[test]
fn a_changed_file_is_read_again_but_not_at_every_look() {
    let folder = folder();
    let start = Instant::now();
    let watched = Watched::new(Number(folder.write("n", "1")), start).unwrap();
    folder.write("n", "22");
    assert_eq!(*watched.get(start + CHECK_EVERY / 2), 1, "too early to look");
    assert_eq!(*watched.get(start + CHECK_EVERY), 22);
}

#[test]
fn a_file_that_takes_the_place_of_another_is_noticed() {
    let folder = folder();
    let start = Instant::now();
    let watched = Watched::new(Number(folder.write("n", "1")), start).unwrap();
    let next = folder.write("next", "2");
    // As old and as long as the one before: only the inode differs.
    let time = fs::metadata(folder.path().join("n")).unwrap().modified().unwrap();
    fs::File::options().write(true).open(&next).unwrap().set_modified(time).unwrap();
    fs::rename(next, folder.path().join("n")).unwrap();
    assert_eq!(*watched.get(start + CHECK_EVERY), 2);
}

#[test]
fn a_broken_file_leaves_the_old_value_until_it_is_mended() {
    let folder = folder();
    let start = Instant::now();
    let watched = Watched::new(Number(folder.write("n", "1")), start).unwrap();
    for (look, (text, value)) in [("x", 1), ("", 1), ("3", 3)].into_iter().enumerate() {
        folder.write("n", text);
        assert_eq!(*watched.get(start + CHECK_EVERY * (look as u32 + 1)), value, "{text:?}");
    }
    fs::remove_file(folder.path().join("n")).unwrap();
    assert_eq!(*watched.get(start + CHECK_EVERY * 4), 3, "a file that is gone is broken too");
    assert!(Watched::new(Number(folder.write("n", "x")), start).is_err());
}
