//! Dials upstreams. A connection is opened for a [`Permit`] only.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::stream::Stream;
use crate::policy::Permit;
use crate::roots::RootsError;
use crate::vault::VaultError;

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
    #[error("client_key: {0}")]
    Key(#[from] VaultError),
    #[error("client_cert {chain}: {problem}")]
    ClientCert { chain: PathBuf, problem: String },
}

impl DialError {
    /// Whether our own policy or files are to blame.
    pub(super) fn is_ours(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Tls { .. } => false,
            Self::Authorities(_) | Self::Key(_) | Self::ClientCert { .. } => true,
        }
    }
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
