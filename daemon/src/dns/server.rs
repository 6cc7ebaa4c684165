//! The resolver's sockets: UDP on the loopback of one network namespace, and TCP streams
//! that the gate's listener has accepted (RFC 7766).
//!
//! A message that is longer than any question is not read to its end.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::wire::LONGEST;
use super::{Resolver, Transport, Who};
use crate::capture::NetnsCookie;
use crate::types::PeerAddr;

/// How long a stream may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// Queries on one stream.
const EACH_STREAM: usize = 100;

/// The open UDP sockets.
#[derive(Debug)]
pub struct Sockets {
    v4: UdpSocket,
    v6: Option<UdpSocket>,
}

/// Opens the sockets in the calling thread's network namespace, at `port` or, where that
/// is taken, at any. Needs the tokio runtime's context.
///
/// # Errors
/// `bind` fails. A namespace without IPv6 loopback gets no IPv6 socket.
pub fn bind(port: u16) -> io::Result<Sockets> {
    let v6 = match open(SocketAddr::from((Ipv6Addr::LOCALHOST, port))) {
        Ok(socket) => Some(socket),
        Err(error) if is_without_ipv6(&error) => None,
        Err(error) => return Err(error),
    };
    Ok(Sockets {
        v4: open(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?,
        v6,
    })
}

fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = match std::net::UdpSocket::bind(address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            std::net::UdpSocket::bind((address.ip(), 0))
        }
        result => result,
    }?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
    )
}

impl Sockets {
    /// The IPv4 port.
    pub fn port4(&self) -> io::Result<u16> {
        self.v4.local_addr().map(|address| address.port())
    }

    /// The IPv6 port.
    pub fn port6(&self) -> io::Result<Option<u16>> {
        let address = self.v6.as_ref().map(UdpSocket::local_addr).transpose()?;
        Ok(address.map(|address| address.port()))
    }

    /// Answers for as long as it is polled.
    pub async fn serve(self, resolver: Arc<Resolver>, netns: NetnsCookie) {
        match &self.v6 {
            Some(v6) => {
                tokio::join!(
                    serve_socket(&self.v4, &resolver, netns),
                    serve_socket(v6, &resolver, netns)
                );
            }
            None => serve_socket(&self.v4, &resolver, netns).await,
        }
    }
}

async fn serve_socket(socket: &UdpSocket, resolver: &Resolver, netns: NetnsCookie) {
    // One byte more than is read, so that what is too long is seen to be.
    let mut buffer = [0; LONGEST + 1];
    loop {
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::error!(%error, "recvfrom at the resolver failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(message) = buffer.get(..length) else {
            continue;
        };
        let who = match resolver.parts.askers.asker(PeerAddr(peer), netns) {
            Ok(Some(asker)) => Who::from(asker),
            Ok(None) => {
                resolver.refuse_stranger(PeerAddr(peer));
                continue;
            }
            Err(error) => {
                tracing::error!(%error, "a query can't be attributed");
                continue;
            }
        };
        if let Some(answer) = resolver.respond(&who, message, Transport::Udp) {
            // An asker that is gone or slow loses its answer, as by any server.
            let _ = socket.try_send_to(&answer, peer);
        }
    }
}

/// Answers the queries of a stream, one after the other, until it ends, falls silent or
/// sends what is no query.
pub async fn serve_stream(resolver: &Resolver, origin: &crate::capture::Origin, stream: TcpStream) {
    let who = Who::from(origin);
    let mut stream = stream;
    for _ in 0..EACH_STREAM {
        match timeout(IDLE, answer_one(resolver, &who, &mut stream)).await {
            Ok(Ok(())) => {}
            // Closed, broken or silent: in each case it is over.
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

async fn answer_one(resolver: &Resolver, who: &Who, stream: &mut TcpStream) -> io::Result<()> {
    let length = usize::from(stream.read_u16().await?);
    let mut message = vec![0; length.min(LONGEST + 1)];
    stream.read_exact(&mut message).await?;
    let answer = resolver
        .respond(who, &message, Transport::Tcp)
        .ok_or(io::ErrorKind::InvalidData)?;
    let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
    let mut framed = Vec::with_capacity(answer.len() + 2);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(&answer);
    stream.write_all(&framed).await?;
    if message.len() > LONGEST {
        // The rest of it is not read, so nothing behind it can be.
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(())
}
