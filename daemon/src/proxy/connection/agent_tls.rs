//! The agent's side of TLS: one handshake, with a certificate for the name that the agent
//! asked for, as far as the policy knows that name for this destination.
//!
//! Invariant: what is signed is a host of the service at the address that the agent asked
//! for, never a name that only the agent has said.

use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::BytesMut;
use rustls::ProtocolVersion;
use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;

use super::super::stream::Stream;
use super::drive::Drive;
use crate::authority::{Authority, AuthorityError};
use crate::protocol::postgres::ALPN;
use crate::protocol::{Answer, Hello};

/// A handshake under way.
pub(super) type Handshake = Pin<Box<dyn Future<Output = Result<Secured, Failed>> + Send>>;

type Secured = Box<TlsStream<TcpStream>>;

/// Why there is no TLS.
pub(super) enum Failed {
    /// The agent's bytes, or it does not believe us.
    Agent(io::Error),
    /// Its own protocol by ALPN is what the direct way begins with.
    NoProtocol(Secured),
    /// Ours.
    Gate(AuthorityError),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Agent(error)
    }
}

impl Drive {
    pub(super) fn secure_agent(&mut self, hello: Hello) {
        let Some(Stream::Plain(socket)) = self.agent.take() else {
            return self.end("TLS inside TLS", Some("gate"));
        };
        let answer = std::mem::take(&mut self.io.to_agent);
        let begun = match hello {
            Hello::Asked => BytesMut::new(),
            Hello::Direct => std::mem::take(&mut self.io.from_agent),
        };
        let (authority, hosts) = (Arc::clone(&self.proxy.authority), self.hosts());
        self.handshake = Some(Box::pin(async move {
            let mut socket = socket;
            socket.write_all(&answer).await?;
            let stream = shake(socket, begun, &authority, hosts).await?;
            if hello == Hello::Direct && stream.get_ref().1.alpn_protocol().is_none() {
                return Err(Failed::NoProtocol(stream));
            }
            Ok(stream)
        }));
    }

    /// Whatever the service is called at the address that the agent asked for.
    fn hosts(&self) -> Hosts {
        let (destination, target) = (self.admitted.origin.dst, &self.admitted.target);
        let destinations = self.proxy.destinations.load();
        let mut names = destinations.hosts(destination, &target.service);
        // They may have been resolved anew since the connection was admitted.
        names.push(Arc::clone(&target.host));
        Hosts {
            names,
            address: destination.addr().ip().to_string().into(),
        }
    }

    pub(super) fn agent_secured(&mut self, secured: Result<Secured, Failed>) {
        self.handshake = None;
        match secured {
            Ok(stream) => {
                self.agent_tls = version(&stream);
                self.agent = Some(Stream::AgentTls(stream));
                self.session.answer(Answer::AgentSecured, &mut self.io);
            }
            Err(Failed::Agent(error)) => {
                self.end(format!("TLS with the agent failed: {error}"), Some("agent"));
            }
            // As the server: the connection ends, and nothing is said about it.
            Err(Failed::NoProtocol(stream)) => {
                self.agent = Some(Stream::AgentTls(stream));
                self.end(
                    "direct TLS without the protocol's name (ALPN)",
                    Some("agent"),
                );
            }
            Err(Failed::Gate(error)) => {
                self.proxy.refusals.say(&error.to_string());
                self.end(error.to_string(), Some("gate"));
            }
        }
    }
}

/// Never, while none is under way.
pub(super) async fn shaken(handshake: &mut Option<Handshake>) -> Result<Secured, Failed> {
    match handshake {
        Some(handshake) => handshake.await,
        None => pending().await,
    }
}

/// What may be vouched for.
struct Hosts {
    /// At least one.
    names: Vec<Arc<str>>,
    address: Arc<str>,
}

impl Hosts {
    /// The name that the agent asked for if it is one of these; else all of them, so that it
    /// can see whom it has reached.
    fn choose(mut self, asked: Option<&str>) -> Vec<Arc<str>> {
        let asked = asked.map(|name| name.strip_suffix('.').unwrap_or(name));
        if let Some(name) = self.names.iter().find(|name| Some(&***name) == asked) {
            return vec![Arc::clone(name)];
        }
        self.names.push(self.address);
        self.names
    }
}

async fn shake(
    mut socket: TcpStream,
    begun: BytesMut,
    authority: &Authority,
    hosts: Hosts,
) -> Result<Secured, Failed> {
    let accepted = client_hello(&mut socket, begun).await?;
    let hosts = hosts.choose(accepted.client_hello().server_name());
    let config = authority.server(hosts, ALPN, SystemTime::now());
    let start = StartHandshake::from_parts(accepted, socket);
    Ok(Box::new(
        start.into_stream(config.map_err(Failed::Gate)?).await?,
    ))
}

/// Reads the ClientHello, of which `bytes` have come already. rustls bounds its length.
async fn client_hello(socket: &mut TcpStream, mut bytes: BytesMut) -> io::Result<Accepted> {
    let mut acceptor = Acceptor::default();
    loop {
        if bytes.is_empty() && socket.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut unread = &bytes[..];
        let taken = acceptor.read_tls(&mut unread)?;
        let _ = bytes.split_to(taken);
        match acceptor.accept() {
            Ok(Some(accepted)) if bytes.is_empty() => return Ok(accepted),
            Ok(Some(_)) => {
                let what = "bytes behind the ClientHello";
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            Ok(None) => {}
            Err((error, mut alert)) => {
                let mut words = Vec::new();
                alert.write_all(&mut words)?;
                socket.write_all(&words).await?;
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }
}

fn version(stream: &TlsStream<TcpStream>) -> Option<&'static str> {
    match stream.get_ref().1.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => Some("TLSv1.2"),
        Some(ProtocolVersion::TLSv1_3) => Some("TLSv1.3"),
        // rustls has no other.
        _ => None,
    }
}

#[cfg(test)]
mod tests;
