//! Certificates and keys from PEM files.

use crate::FileError;
use std::fs;
use std::path::Path;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The certificates in `path`, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let bytes = bytes(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if found.is_empty() => Err(FileError::NoCertificate { path: name(path) }),
        Ok(found) => Ok(found),
        Err(error) => Err(unusable(path, error)),
    }
}

/// The first private key in `path`.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    PrivateKeyDer::from_pem_slice(&bytes(path)?)
        // What the parser says could show a part of the key.
        .map_err(|_| FileError::NoPrivateKey { path: name(path) })
}

/// The authorities in `path`, at least one.
pub(crate) fn authorities(path: &Path) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| unusable(path, error))?;
    }
    Ok(roots)
}

pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(|source| FileError::Read { path: name(path), source })
}

pub(crate) fn name(path: &Path) -> String {
    path.display().to_string()
}

pub(crate) fn unusable(path: &Path, reason: impl std::fmt::Display) -> FileError {
    FileError::Unusable { path: name(path), reason: reason.to_string() }
}
