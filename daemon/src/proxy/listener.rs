//! The gate's listeners on loopback, where the kernel programs send the agents.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{OpenGuard, Proxy, connection};
use crate::types::PeerAddr;

/// Connections that may wait for accept(); the kernel caps it at `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// A listener can't be opened.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {source}")]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

/// The open listeners.
pub struct Listeners {
    v4: TcpListener,
    v6: Option<TcpListener>,
}

/// Opens both listeners on `port` (0 takes a free one, the same for both). A host
/// without IPv6 loopback gets none for it, and the kernel programs refuse IPv6 there.
pub fn bind(port: u16) -> Result<Listeners, ListenError> {
    let v4 = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    let taken = v4
        .local_addr()
        .map(|address| address.port())
        .unwrap_or(port);
    let v6 = match listen(SocketAddr::from((Ipv6Addr::LOCALHOST, taken))) {
        Ok(listener) => Some(listener),
        Err(error) if no_ipv6(&error.source) => None,
        Err(error) => return Err(error),
    };
    Ok(Listeners { v4, v6 })
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
    )
}

fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let open = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // A daemon that was killed leaves connections in TIME_WAIT on its port.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|source| ListenError { address, source })
}

impl Listeners {
    /// The address for IPv4 agents.
    pub fn v4(&self) -> io::Result<SocketAddr> {
        self.v4.local_addr()
    }

    /// The address for IPv6 agents.
    pub fn v6(&self) -> io::Result<Option<SocketAddr>> {
        self.v6.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// The IPv4 socket, to ask its network namespace.
    pub fn socket(&self) -> &TcpListener {
        &self.v4
    }

    /// Accepts for as long as it is polled.
    pub async fn serve(self, proxy: Arc<Proxy>) {
        loop {
            let accepted = match &self.v6 {
                Some(v6) => tokio::select! {
                    accepted = self.v4.accept() => accepted,
                    accepted = v6.accept() => accepted,
                },
                None => self.v4.accept().await,
            };
            match accepted {
                Ok((stream, peer)) => spawn(&proxy, stream, PeerAddr(peer)),
                Err(error) => {
                    // Out of descriptors, most likely: others must close first.
                    tracing::error!(%error, "accept failed");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            }
        }
    }
}

fn spawn(proxy: &Arc<Proxy>, stream: TcpStream, peer: PeerAddr) {
    let guard = OpenGuard::new(proxy);
    let proxy = Arc::clone(proxy);
    tokio::spawn(async move {
        connection::serve(&proxy, stream, peer).await;
        drop(guard);
    });
}
