//! A folder of one process for its socket.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Only this user may look into it; gone, with the socket, when it is dropped.
#[derive(Debug)]
pub(crate) struct SocketDir(PathBuf);

impl SocketDir {
    /// Makes `name` inside `parent`. It must not be there yet: whoever made it could look into it.
    pub(crate) fn create(parent: &Path, name: &str) -> io::Result<Self> {
        let path = parent.join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// The path of the socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("kv.sock")
    }
}

impl Drop for SocketDir {
    fn drop(&mut self) {
        // What cannot be removed is left: an empty folder harms nobody.
        let _ = fs::remove_file(self.socket());
        let _ = fs::remove_dir(&self.0);
    }
}

#[cfg(test)]
mod tests;
