//! Dials upstreams. A connection is opened for a [`Permit`] only.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::stream::Stream;
use crate::policy::Permit;
use crate::roots::{Roots, RootsError};

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
    #[error(transparent)]
    Authorities(#[from] RootsError),
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

/// TLS client settings by authority file, none for the system's trust store.
#[derive(Default)]
pub(super) struct TlsClients {
    roots: Mutex<HashMap<Option<PathBuf>, Arc<Roots>>>,
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

    fn config(&self, authorities: Option<&Path>) -> Result<Arc<ClientConfig>, RootsError> {
        let file = authorities.map(Path::to_owned);
        let roots = {
            let mut known = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
            let roots = known.entry(file.clone());
            Arc::clone(roots.or_insert_with(|| Arc::new(Roots::new(file))))
        };
        roots.config()
    }
}
