//! Where a process's certificates are.

use std::path::PathBuf;

/// PEM files with which a process shows who it is, and knows the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities whose word counts.
    pub ca: PathBuf,
    /// The certificate of this process, then those that lead to the authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}
