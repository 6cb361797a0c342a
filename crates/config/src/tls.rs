//! Certificates between the processes of a cluster.

use crate::Problems;
use clap::Args;
use estafette_types::TlsFiles;
use std::path::{Path, PathBuf};

/// Flags about TLS between the processes, the same for all of them. All three or none.
#[derive(Clone, Debug, Default, Args)]
pub struct TlsArgs {
    /// Authorities in PEM form; with it all processes of the cluster must show each other a certificate of one of them.
    #[arg(long)]
    pub tls_ca: Option<PathBuf>,
    /// Certificate of this process in PEM form, with the DNS name `estafette`, for both server and client authentication.
    #[arg(long)]
    pub tls_cert: Option<PathBuf>,
    /// Its private key in PEM form.
    #[arg(long)]
    pub tls_key: Option<PathBuf>,
}

impl TlsArgs {
    /// `None` when TLS is not wanted, or something is wrong.
    pub(crate) fn check(self, problems: &mut Problems) -> Option<TlsFiles> {
        let named =
            [("--tls-ca", self.tls_ca), ("--tls-cert", self.tls_cert), ("--tls-key", self.tls_key)];
        if named.iter().all(|(_, path)| path.is_none()) {
            return None;
        }
        let [ca, cert, key] = named.map(|(flag, path)| {
            problems.check(path.is_some(), flag, || {
                "is missing: --tls-ca, --tls-cert and --tls-key are given together or not at all"
                    .into()
            });
            path.inspect(|path| check_file(problems, flag, path))
        });
        Some(TlsFiles { ca: ca?, cert: cert?, key: key? })
    }

    /// As flags for another process.
    pub fn flags(&self) -> Vec<String> {
        let named =
            [("tls-ca", &self.tls_ca), ("tls-cert", &self.tls_cert), ("tls-key", &self.tls_key)];
        let given = named.into_iter().filter_map(|(flag, path)| Some((flag, path.as_ref()?)));
        given.map(|(flag, path)| format!("--{flag}={}", path.display())).collect()
    }

    /// The files, for a command that has no other settings to check.
    ///
    /// # Errors
    /// When only some are named, or one is not there.
    pub fn files(self) -> Result<Option<TlsFiles>, crate::ConfigErrors> {
        let mut problems = Problems::default();
        let files = self.check(&mut problems);
        problems.finish(Some(files))
    }
}

/// Whether there is such a file.
pub(crate) fn check_file(problems: &mut Problems, flag: &'static str, path: &Path) {
    problems.check(path.is_file(), flag, || format!("there is no file {}", path.display()));
}
