//! The gate's listeners on the loopback of one network namespace, where the kernel
//! programs send the agents that are in it.
//!
//! A socket belongs for ever to the namespace that it was made in, and holds it: whoever
//! opens listeners in another namespace drops them when no agent is left there, and with
//! them end the connections that they accepted.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use super::{OpenGuard, Proxy, connection};
use crate::capture::{ListenerConfig, NetnsCookie};
use crate::dns;
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

impl From<ListenError> for io::Error {
    fn from(error: ListenError) -> Self {
        Self::new(error.source.kind(), error)
    }
}

/// The open listeners.
pub struct Listeners {
    v4: TcpListener,
    v6: Option<TcpListener>,
    queries: dns::Sockets,
    /// Whether they are in another network namespace than the daemon.
    abroad: bool,
    /// Goes with them, and then their connections end.
    left: watch::Sender<()>,
}

/// Where a connection was accepted.
pub(super) struct Place {
    /// The network namespace.
    pub(super) netns: NetnsCookie,
    /// The end of the listeners there.
    pub(super) left: Left,
}

/// Resolves when the listeners that a connection came from are gone.
pub(super) struct Left(watch::Receiver<()>);

impl Left {
    #[cfg(test)]
    pub(super) fn of(listeners: watch::Receiver<()>) -> Self {
        Self(listeners)
    }

    pub(super) async fn wait(&mut self) {
        // Nothing is ever sent.
        while self.0.changed().await.is_ok() {}
    }
}

/// Opens both listeners on `port` (0 takes a free one, the same for both). A host
/// without IPv6 loopback gets none for it, and the kernel programs refuse IPv6 there.
pub fn bind(port: u16) -> Result<Listeners, ListenError> {
    let v4 = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    let taken = v4
        .local_addr()
        .map(|address| address.port())
        .unwrap_or(port);
    let v6 = loopback6(taken)?;
    Ok(Listeners {
        v4,
        v6,
        queries: queries(taken)?,
        abroad: false,
        left: watch::Sender::new(()),
    })
}

/// The same for a thread that has entered another network namespace, where the port may be
/// taken by the agents: then any other will do. Needs the tokio runtime's context.
pub fn bind_abroad(port: u16) -> Result<Listeners, ListenError> {
    let any = |error: &ListenError| error.source.kind() == io::ErrorKind::AddrInUse;
    let v4 = match listen(SocketAddr::from((Ipv4Addr::LOCALHOST, port))) {
        Err(error) if any(&error) => listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        result => result,
    }?;
    let v6 = match loopback6(port) {
        Err(error) if any(&error) => loopback6(0),
        result => result,
    }?;
    Ok(Listeners {
        v4,
        v6,
        queries: queries(port)?,
        abroad: true,
        left: watch::Sender::new(()),
    })
}

fn queries(port: u16) -> Result<dns::Sockets, ListenError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    dns::bind(port).map_err(|source| ListenError { address, source })
}

fn loopback6(port: u16) -> Result<Option<TcpListener>, ListenError> {
    match listen(SocketAddr::from((Ipv6Addr::LOCALHOST, port))) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if no_ipv6(&error.source) => Ok(None),
        Err(error) => Err(error),
    }
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
    /// Where they are, as the kernel programs need to know it.
    ///
    /// # Errors
    /// The kernel does not tell the namespace of a socket: Linux before 5.14.
    pub fn config(&self) -> io::Result<ListenerConfig> {
        let v6 = self.v6.as_ref().map(address6);
        Ok(ListenerConfig {
            v4: address4(&self.v4)?,
            v6: v6.transpose()?,
            dns4: Some(self.queries.port4()?),
            dns6: self.queries.port6()?,
            netns: self.netns()?,
        })
    }

    fn netns(&self) -> io::Result<NetnsCookie> {
        NetnsCookie::of_socket(&self.v4)
    }

    /// Accepts, and answers queries, for as long as it is polled; dropping the future ends
    /// the connections too.
    pub async fn serve(self, proxy: Arc<Proxy>) {
        let netns = match self.netns() {
            Ok(netns) => netns,
            Err(error) => return tracing::error!(%error, "getsockopt(SO_NETNS_COOKIE) failed"),
        };
        let Self {
            v4,
            v6,
            queries,
            abroad,
            left,
        } = self;
        let queries = queries.serve(Arc::clone(&proxy.resolver), netns);
        tokio::join!(queries, async {
            loop {
                let place = || Place {
                    netns,
                    left: Left(left.subscribe()),
                };
                accept(&proxy, &v4, v6.as_ref(), abroad, place).await;
            }
        });
    }
}

async fn accept(
    proxy: &Arc<Proxy>,
    v4: &TcpListener,
    v6: Option<&TcpListener>,
    abroad: bool,
    place: impl FnOnce() -> Place,
) {
    let accepted = match v6 {
        Some(v6) => tokio::select! {
            accepted = v4.accept() => accepted,
            accepted = v6.accept() => accepted,
        },
        None => v4.accept().await,
    };
    match accepted {
        Ok((stream, _)) if abroad && notice_death(&stream).is_err() => {}
        Ok((stream, peer)) => spawn(proxy, stream, PeerAddr(peer), place()),
        Err(error) => {
            // Out of descriptors, most likely: others must close first.
            tracing::error!(%error, "accept failed");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Whoever rules another namespace can take its loopback down, and with it the end of a
/// connection: so that such a connection does not hold the namespace for ever, it ends
/// after half a minute without an answer from the agent's kernel.
fn notice_death(stream: &TcpStream) -> io::Result<()> {
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &15)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &5)?;
    setsockopt(stream, sockopt::TcpKeepCount, &3)?;
    setsockopt(stream, sockopt::TcpUserTimeout, &30_000)?;
    Ok(())
}

fn address4(listener: &TcpListener) -> io::Result<SocketAddrV4> {
    match listener.local_addr()? {
        SocketAddr::V4(address) => Ok(address),
        SocketAddr::V6(_) => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn address6(listener: &TcpListener) -> io::Result<SocketAddrV6> {
    match listener.local_addr()? {
        SocketAddr::V6(address) => Ok(address),
        SocketAddr::V4(_) => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn spawn(proxy: &Arc<Proxy>, stream: TcpStream, peer: PeerAddr, place: Place) {
    let guard = OpenGuard::new(proxy);
    // It leaves this thread's epoll for that of the one that will serve it.
    let stream = match stream.into_std() {
        Ok(stream) => stream,
        Err(error) => return tracing::error!(%error, "an accepted connection was lost"),
    };
    let mine = Arc::clone(proxy);
    proxy.workers.serve(async move {
        match TcpStream::from_std(stream) {
            Ok(stream) => connection::serve(&mine, stream, peer, place).await,
            Err(error) => tracing::error!(%error, "an accepted connection was lost"),
        }
        drop(guard);
    });
}
