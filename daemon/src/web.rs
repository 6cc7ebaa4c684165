//! A small HTTP/1.1 client for the daemon's own calls: an issuer's keys, a vault.
//!
//! One connection for each call, bounded in time and in bytes whatever the peer does.
//! TLS is verified against the system's authorities or a file of them; plain HTTP goes to
//! the loopback only, unless the settings say otherwise. A redirect is an answer like any
//! other and never followed. Absent on purpose: proxies, cookies, compression, pooling.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use secrecy::zeroize::Zeroizing;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::roots::{Roots, RootsError};

/// Bytes of an answer's head.
const HEAD: usize = 64 * 1024;

/// How a client may speak, and how long.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A PEM file of authorities; without it the system's.
    pub ca: Option<PathBuf>,
    /// Whether plain HTTP may leave this host. Over it everybody on the way can read and
    /// change the answer.
    pub plain_anywhere: bool,
    /// For the whole call, from the look-up of the name to the last byte.
    pub patience: Duration,
    /// The longest body of an answer, in bytes.
    pub longest: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ca: None,
            plain_anywhere: false,
            patience: Duration::from_secs(5),
            longest: 1024 * 1024,
        }
    }
}

/// What the peer answered; any status, also 3xx, 4xx and 5xx.
pub struct Answer {
    /// The status code (RFC 9110, section 15).
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, wiped when dropped. (hyper's own read buffer is not.)
    pub body: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer({}, {} bytes)", self.status, self.body.len())
    }
}

/// A call got no whole answer. Names the peer, never headers, query or body.
#[derive(Debug, Error)]
pub enum WebError {
    /// Nothing was sent: our configuration, or a document of the peer's, is to blame.
    #[error("cannot call `{url}`: {problem}")]
    Url {
        /// Without its query.
        url: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The authorities can't be read.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// No connection.
    #[error("cannot connect to {peer}: {source}")]
    Connect {
        /// Host and port.
        peer: String,
        /// The system's answer.
        source: io::Error,
    },
    /// No trust.
    #[error("TLS with {peer} failed: {source}")]
    Tls {
        /// Host and port.
        peer: String,
        /// rustls's answer.
        source: io::Error,
    },
    /// Not HTTP, or broken off.
    #[error("{peer} does not speak HTTP with us: {source}")]
    Http {
        /// Host and port.
        peer: String,
        /// hyper's answer.
        source: hyper::Error,
    },
    /// Longer than the settings allow.
    #[error("the answer of {peer} is longer than {longest} bytes")]
    TooLong {
        /// Host and port.
        peer: String,
        /// The bound.
        longest: usize,
    },
    /// Later than the settings allow.
    #[error("{peer} did not answer within {patience:?}")]
    TooSlow {
        /// Host and port.
        peer: String,
        /// The bound.
        patience: Duration,
    },
}

/// Makes calls. Cheap to keep, not tied to a peer.
#[derive(Debug)]
pub struct Client {
    settings: Settings,
    roots: Roots,
}

impl Client {
    /// Reads nothing yet: a missing file of authorities is an error of the first call.
    pub fn new(settings: Settings) -> Self {
        let roots = Roots::new(settings.ca.clone());
        Self { settings, roots }
    }

    /// `GET url`.
    pub async fn get(&self, url: &Uri) -> Result<Answer, WebError> {
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = url.clone();
        self.call(request).await
    }

    /// Sends the request, whose URI is absolute, and reads all of the answer. `Host`,
    /// `Content-Length` and `User-Agent` are added. Mark secret header values with
    /// [`HeaderValue::set_sensitive`].
    pub async fn call(&self, request: Request<Bytes>) -> Result<Answer, WebError> {
        let target = Target::of(request.uri(), self.settings.plain_anywhere)?;
        let peer = target.peer();
        let patience = self.settings.patience;
        tokio::time::timeout(patience, self.exchange(&target, request))
            .await
            .unwrap_or(Err(WebError::TooSlow { peer, patience }))
    }

    async fn exchange(&self, target: &Target, request: Request<Bytes>) -> Result<Answer, WebError> {
        let stream = target.connect(self.settings.plain_anywhere).await?;
        if !target.tls {
            return self.speak(target, request, stream).await;
        }
        let peer = target.peer();
        let failed = |source| WebError::Tls {
            peer: peer.clone(),
            source,
        };
        let config = self.roots.config()?;
        let name = ServerName::try_from(target.host.clone())
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let connecting = TlsConnector::from(config).connect(name, stream);
        let stream = connecting.await.map_err(failed)?;
        self.speak(target, request, stream).await
    }

    async fn speak<S>(
        &self,
        target: &Target,
        request: Request<Bytes>,
        stream: S,
    ) -> Result<Answer, WebError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let broken = |source| WebError::Http {
            peer: target.peer(),
            source,
        };
        let handshake = http1::Builder::new()
            .max_buf_size(HEAD)
            .handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(broken)?;
        // Aborted when dropped, so a call that is given up leaves nothing behind.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let response = sender.send_request(target.address(request)).await;
        let (head, body) = response.map_err(broken)?.into_parts();
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: self.collect(target, body).await?,
        })
    }

    async fn collect(
        &self,
        target: &Target,
        mut body: Incoming,
    ) -> Result<Zeroizing<Vec<u8>>, WebError> {
        let longest = self.settings.longest;
        let too_long = || WebError::TooLong {
            peer: target.peer(),
            longest,
        };
        let said = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if said > longest {
            return Err(too_long());
        }
        // Text that grows leaves copies behind; without a length there is no other way.
        let mut all = Zeroizing::new(Vec::with_capacity(said));
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|source| WebError::Http {
                peer: target.peer(),
                source,
            })?;
            let Some(data) = frame.data_ref() else {
                continue;
            };
            if all.len() + data.len() > longest {
                return Err(too_long());
            }
            all.extend_from_slice(data);
        }
        Ok(all)
    }
}

/// Whether plain HTTP to this URL stays on this host, by what is written there.
pub fn is_loopback(url: &Uri) -> bool {
    url.host().is_some_and(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    })
}

/// Where a call goes.
struct Target {
    tls: bool,
    /// A name or an address, without brackets.
    host: String,
    port: u16,
}

impl Target {
    fn of(url: &Uri, plain_anywhere: bool) -> Result<Self, WebError> {
        let wrong = |problem| WebError::Url {
            url: shown(url),
            problem,
        };
        let tls = match url.scheme_str() {
            Some("https") => true,
            Some("http") if plain_anywhere || is_loopback(url) => false,
            Some("http") => return Err(wrong("plain http goes to this host itself only")),
            _ => return Err(wrong("it must begin with https://")),
        };
        let authority = url.authority().ok_or(wrong("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("a user name or password does not belong there"));
        }
        let host = authority.host();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong("it names no host"));
        }
        Ok(Self {
            tls,
            host: host.to_owned(),
            port: url.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        })
    }

    fn peer(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// A name server may say anything of `localhost`.
    fn admits(&self, address: IpAddr, plain_anywhere: bool) -> bool {
        self.tls || plain_anywhere || address.is_loopback()
    }

    async fn connect(&self, plain_anywhere: bool) -> Result<TcpStream, WebError> {
        let failed = |source| WebError::Connect {
            peer: self.peer(),
            source,
        };
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in found.map_err(failed)? {
            if !self.admits(address.ip(), plain_anywhere) {
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }

    /// The request as it is sent: its URI without scheme and host (RFC 9112, section 3.2.1).
    fn address(&self, request: Request<Bytes>) -> Request<Full<Bytes>> {
        let (mut head, body) = request.into_parts();
        let authority = head.uri.authority().map(|authority| authority.as_str());
        let host = HeaderValue::from_str(authority.unwrap_or_default());
        if let Ok(host) = host {
            head.headers.insert(HOST, host);
        }
        let agent = concat!("portcullis/", env!("CARGO_PKG_VERSION"));
        head.headers
            .insert(USER_AGENT, HeaderValue::from_static(agent));
        let path = head.uri.path_and_query().cloned();
        head.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
        Request::from_parts(head, Full::new(body))
    }
}

/// A URL as messages show it: a query may hold secrets.
fn shown(url: &Uri) -> String {
    let scheme = url
        .scheme_str()
        .map_or(String::new(), |scheme| format!("{scheme}://"));
    let host = url.host().unwrap_or_default();
    format!("{scheme}{host}{}", url.path())
}

#[cfg(test)]
mod tests;
