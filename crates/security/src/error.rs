//! What can be wrong with files, and with the first words of a connection; in words for the person who set it up.

use std::io;
use thiserror::Error;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error as RustlsError};

/// A file that cannot be used.
#[derive(Debug, Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// It has no certificate.
    #[error("{path} holds no certificate in PEM form")]
    NoCertificate {
        /// Which.
        path: String,
    },
    /// It has no private key.
    #[error("{path} holds no private key in PEM form")]
    NoPrivateKey {
        /// Which.
        path: String,
    },
    /// What it holds is of no use.
    #[error("{path}: {reason}")]
    Unusable {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
    /// A line of the key file is no hash. The line is not shown: it may be a key.
    #[error(
        "{path}, line {line}: not a SHA-256 in 64 hex digits: write what `printf %s KEY | sha256sum` prints, \
         not the key"
    )]
    NotAHash {
        /// Which.
        path: String,
        /// Counted from 1.
        line: usize,
    },
    /// The key file names no key.
    #[error("{path} holds no key: nobody would be let in")]
    NoKeys {
        /// Which.
        path: String,
    },
}

/// Why a connection could not be made secure.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HandshakeError {
    /// The peer sends something else than TLS.
    #[error("it does not speak TLS: start it with --tls-ca, --tls-cert and --tls-key too")]
    PlainPeer,
    /// The peer speaks TLS, this process does not.
    #[error("it speaks TLS: start this process with --tls-ca, --tls-cert and --tls-key too")]
    TlsPeer,
    /// The peer sends something else than what this port is for.
    #[error("what it sends is not meant for this port")]
    Foreign,
    /// The peer has no certificate.
    #[error("it shows no certificate")]
    NoCertificate,
    /// The peer's certificate is of no use here.
    #[error("its certificate is not accepted here: {0}")]
    BadCertificate(String),
    /// The peer does not like our certificate.
    #[error("it does not accept the certificate of this process ({0})")]
    RefusedCertificate(String),
    /// It takes too long.
    #[error("it took too long to say who it is")]
    Late,
    /// Too many connections are in this state.
    #[error("too many connections are being opened at once")]
    TooMany,
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl From<&RustlsError> for HandshakeError {
    fn from(error: &RustlsError) -> Self {
        match error {
            RustlsError::InvalidMessage(_) => Self::PlainPeer,
            RustlsError::NoCertificatesPresented => Self::NoCertificate,
            RustlsError::InvalidCertificate(why) => Self::BadCertificate(certificate_fault(why)),
            RustlsError::AlertReceived(alert) if is_about_certificates(*alert) => {
                Self::RefusedCertificate(format!("{alert:?}"))
            }
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<&io::Error> for HandshakeError {
    fn from(error: &io::Error) -> Self {
        match tls_error(error) {
            Some(inner) => inner.into(),
            None => Self::Failed(format!("the connection broke: {error}")),
        }
    }
}

fn tls_error(error: &io::Error) -> Option<&RustlsError> {
    error.get_ref()?.downcast_ref()
}

/// An error of a TLS connection in words. With TLS 1.3 a client hears only after its handshake that its certificate was
/// refused, so this may come with any read.
pub fn explained(error: io::Error) -> io::Error {
    match tls_error(&error) {
        Some(inner) => io::Error::new(error.kind(), HandshakeError::from(inner)),
        None => error,
    }
}

fn certificate_fault(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "it is not from the authority in --tls-ca".into()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; are the clocks right?".into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("it lacks the DNS name `{}`", crate::PEER_NAME)
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it must be made for both server and client authentication".into()
        }
        other => format!("{other}"),
    }
}

fn is_about_certificates(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
    )
}
