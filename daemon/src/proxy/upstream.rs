//! Dials upstreams. A connection is opened for a [`Permit`] only.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::stream::Stream;
use crate::policy::Permit;

/// How long an upstream may take to answer a SYN or a TLS hello.
const PATIENCE: Duration = Duration::from_secs(5);

/// The upstream can't be reached or trusted.
#[derive(Debug, Error)]
pub(super) enum DialError {
    #[error("cannot connect to {upstream}: {source}")]
    Connect {
        upstream: SocketAddr,
        source: io::Error,
    },
    #[error("TLS with {host} failed: {source}")]
    Tls { host: String, source: io::Error },
    #[error("cannot use the authorities in {path}: {problem}")]
    Authorities { path: PathBuf, problem: String },
}

/// Connects; the permit proves that the policy admits it.
pub(super) async fn dial(_permit: &Permit, upstream: SocketAddr) -> Result<Stream, DialError> {
    let stream = patient(TcpStream::connect(upstream)).await;
    let stream = stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
    stream
        .map(Stream::Plain)
        .map_err(|source| DialError::Connect { upstream, source })
}

pub(super) async fn patient<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// TLS client settings by authority file, none for the system's trust store. A file that
/// has changed is read again.
#[derive(Default)]
pub(super) struct TlsClients {
    configs: Mutex<HashMap<Option<PathBuf>, Known>>,
}

struct Known {
    version: Option<Version>,
    config: Arc<ClientConfig>,
}

/// What tells one content of a file from the next: modified (seconds, nanoseconds), inode,
/// length.
type Version = (i64, i64, u64, u64);

fn version(path: &Path) -> Option<Version> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.mtime(), found.mtime_nsec(), found.ino(), found.len()))
}

impl TlsClients {
    /// Turns a plain connection to TLS and verifies that the peer is `host` (RFC 6125).
    pub(super) async fn secure(
        &self,
        stream: Stream,
        host: &str,
        authorities: Option<&Path>,
    ) -> Result<Stream, DialError> {
        let tls = |source| DialError::Tls {
            host: host.to_owned(),
            source,
        };
        let Stream::Plain(stream) = stream else {
            return Ok(stream);
        };
        let config = self.config(authorities)?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| tls(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let secured = patient(TlsConnector::from(config).connect(name, stream)).await;
        secured
            .map(|stream| Stream::Tls(Box::new(stream)))
            .map_err(tls)
    }

    fn config(&self, authorities: Option<&Path>) -> Result<Arc<ClientConfig>, DialError> {
        let version = authorities.and_then(version);
        let key = authorities.map(Path::to_owned);
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = configs.get(&key)
            && known.version == version
        {
            return Ok(Arc::clone(&known.config));
        }
        let roots = match authorities {
            Some(path) => from_file(path)?,
            None => from_system()?,
        };
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let config = Arc::new(config);
        let known = Known {
            version,
            config: Arc::clone(&config),
        };
        configs.insert(key, known);
        Ok(config)
    }
}

fn from_file(path: &Path) -> Result<RootCertStore, DialError> {
    let failed = |problem: String| DialError::Authorities {
        path: path.to_owned(),
        problem,
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|e| failed(e.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| failed(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(failed("no certificate in it".into()));
    }
    Ok(roots)
}

fn from_system() -> Result<RootCertStore, DialError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let path = "the system's trust store".into();
        return Err(DialError::Authorities {
            path,
            problem: "no certificate in it".into(),
        });
    }
    Ok(roots)
}
