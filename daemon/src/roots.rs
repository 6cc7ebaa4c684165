//! Whom TLS trusts: the system's authorities, or those of a file.
//!
//! One place for every TLS connection that the daemon opens: to upstreams, issuers and
//! vaults. Absent on purpose: any way to take a certificate without an authority.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

/// The authorities can't be used.
#[derive(Debug, Error)]
#[error("cannot use the authorities in {place}: {problem}")]
pub struct RootsError {
    place: String,
    problem: String,
}

/// Client settings for one file of authorities, or the system's. A file that has changed is
/// read again.
#[derive(Debug)]
pub(crate) struct Roots {
    file: Option<PathBuf>,
    known: Mutex<Option<(Option<Version>, Arc<ClientConfig>)>>,
}

/// What tells one content of a file from the next: modified (seconds, nanoseconds), inode,
/// length.
type Version = (i64, i64, u64, u64);

fn version(path: &Path) -> Option<Version> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.mtime(), found.mtime_nsec(), found.ino(), found.len()))
}

impl Roots {
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        Self {
            file,
            known: Mutex::default(),
        }
    }

    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, RootsError> {
        let version = self.file.as_deref().and_then(version);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, config)) = &*known
            && *read == version
        {
            return Ok(Arc::clone(config));
        }
        let roots = match &self.file {
            Some(path) => from_file(path)?,
            None => from_system()?,
        };
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let config = Arc::new(config);
        *known = Some((version, Arc::clone(&config)));
        Ok(config)
    }
}

fn from_file(path: &Path) -> Result<RootCertStore, RootsError> {
    let failed = |problem: String| RootsError {
        place: path.display().to_string(),
        problem,
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|e| failed(e.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        let added = roots.add(certificate);
        added.map_err(|error| failed(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(failed("no certificate in it".into()));
    }
    Ok(roots)
}

fn from_system() -> Result<RootCertStore, RootsError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(RootsError {
            place: "the system's trust store".into(),
            problem: "no certificate in it".into(),
        });
    }
    Ok(roots)
}
