//! Serves the control socket.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use axum::{Json, Router};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Group, chown};
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::api::{
    Claim, Problem, Renew, Renewed, Revoke, SessionInfo, StartSession, Started, Status,
};
use crate::sys;
use crate::types::Principal;

/// Requests are a few hundred bytes.
const BODY_LIMIT: usize = 64 * 1024;

/// Who is at the other end, as the kernel says (`SO_PEERCRED`).
#[derive(Debug, Clone)]
pub struct Peer {
    /// Process id at the time of its connect().
    pub pid: u32,
    /// User.
    pub uid: u32,
    /// Tells whether the process that connected is still the one of this pid; before Linux
    /// 6.5 the one that was when the connection was accepted.
    process: Option<Arc<OwnedFd>>,
}

impl Peer {
    /// Whether its pid is still its own, and was so all the time.
    ///
    /// # Errors
    /// The process that connected has ended.
    pub fn still_lives(&self) -> Result<(), ControlError> {
        if self.process.as_deref().is_none_or(has_ended) {
            let text = "the process that connected has ended";
            return Err(ControlError::Forbidden(text.into()));
        }
        Ok(())
    }
}

/// Why a request was refused.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The caller may not ask this.
    #[error("{0}")]
    Forbidden(String),
    /// The caller asked for something impossible.
    #[error("{0}")]
    Invalid(String),
    /// There is no such session, or it is not the caller's to know of.
    #[error("{0}")]
    NotFound(String),
    /// The daemon can't do it now.
    #[error("{0}")]
    Unavailable(String),
}

/// What was asked for when it is refused.
#[derive(Debug, Clone, Copy)]
pub enum Asked<'a> {
    /// A session.
    Session(&'a Claim),
    /// More time for the session of this id.
    Renewal(&'a str),
    /// From inside a session: a narrower one.
    Narrower,
}

impl Asked<'_> {
    /// The word for records.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Session(_) => "session",
            Self::Renewal(_) => "renewal",
            Self::Narrower => "narrower_session",
        }
    }

    /// Whom the asker named; a token is not repeated.
    pub fn claim(&self) -> Option<&str> {
        match self {
            Self::Session(Claim::As(name)) => Some(name),
            Self::Session(Claim::Token(_)) | Self::Renewal(_) | Self::Narrower => None,
        }
    }
}

/// An answer that takes time.
pub type Waiting<'a, T> = Pin<Box<dyn Future<Output = Result<T, ControlError>> + Send + 'a>>;

/// What the server needs from the rest of the daemon.
pub trait SessionsHandle: Send + Sync + 'static {
    /// Whether the caller may ask anything at all; nobody inside an agent session may.
    fn may_ask(&self, peer: &Peer) -> Result<(), ControlError>;

    /// Finds out whom a caller speaks of; a token takes asking its issuer.
    fn identify<'a>(&'a self, claim: &'a Claim) -> Waiting<'a, Principal>;

    /// Makes a session and puts the caller into it.
    fn start(
        &self,
        peer: &Peer,
        principal: Principal,
        request: &StartSession,
    ) -> Result<Started, ControlError>;

    /// Something was asked for and refused.
    fn refused(&self, peer: &Peer, asked: &Asked<'_>, why: &ControlError);

    /// Gives a session the time and the claims of a fresh token.
    fn renew(&self, peer: &Peer, id: &str, fresh: &Principal) -> Result<Renewed, ControlError>;

    /// Ends a session, and its processes if asked to.
    fn revoke(&self, peer: &Peer, id: &str, kill: bool) -> Result<(), ControlError>;

    /// The sessions, ended ones with living processes too.
    fn list(&self) -> Vec<SessionInfo>;

    /// One of them.
    fn show(&self, id: &str) -> Option<SessionInfo>;

    /// The state of the daemon.
    fn status(&self) -> Status;

    /// Its counters, as Prometheus reads them.
    fn metrics(&self) -> String;
}

/// The socket can't be opened.
#[derive(Debug, Error)]
pub enum SocketError {
    /// A system call failed.
    #[error("cannot open the socket {path}: {source}")]
    Open {
        /// The socket.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The port for metrics can't be opened.
    #[error("metrics.listen: cannot listen on {address}: {source}")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The configured group is not on this host.
    #[error("control.group: there is no group \"{0}\": groupadd --system {0}")]
    NoGroup(String),
}

/// Opens the socket: mode 0600, or 0660 for `group`. A dead daemon's socket is replaced;
/// whoever calls holds the daemon's lock.
pub fn bind(path: &std::path::Path, group: Option<&str>) -> Result<UnixListener, SocketError> {
    let failed = |source| SocketError::Open {
        path: path.display().to_string(),
        source,
    };
    let group = group.map(find_group).transpose()?;
    let listener = bind_private(path).map_err(failed)?;
    if let Some(group) = group {
        chown(path, None, Some(group)).map_err(|errno| failed(errno.into()))?;
        let mode = std::fs::Permissions::from_mode(0o660);
        std::fs::set_permissions(path, mode).map_err(failed)?;
    }
    Ok(listener)
}

/// A new socket that only its owner may connect to, in the place of a dead daemon's.
pub(super) fn bind_private(path: &std::path::Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Never open to others, not even between bind and chmod.
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    listener
}

fn find_group(name: &str) -> Result<Gid, SocketError> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid),
        _ => Err(SocketError::NoGroup(name.to_owned())),
    }
}

/// What the server is handed.
pub type Handle = Arc<dyn SessionsHandle>;

/// Serves for as long as it is polled.
pub async fn serve(listener: UnixListener, handle: Handle) -> io::Result<()> {
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/sessions", get(list).post(start))
        .route("/v1/sessions/{id}", get(show))
        .route("/v1/sessions/{id}/renew", post(renew))
        .route("/v1/sessions/{id}/revoke", post(revoke))
        .route("/metrics", get(metrics))
        .layer(from_fn_with_state(Arc::clone(&handle), check_peer))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(handle);
    let service = router.into_make_service_with_connect_info::<Caller>();
    axum::serve(listener, service).await
}

/// Opens the port for metrics, if one is configured.
pub fn bind_metrics(address: Option<SocketAddr>) -> Result<Option<TcpListener>, SocketError> {
    let Some(address) = address else {
        return Ok(None);
    };
    let failed = |source| SocketError::Metrics { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    TcpListener::from_std(listener).map(Some).map_err(failed)
}

/// Serves the metrics, and nothing else, to whoever can reach the port.
pub async fn serve_metrics(listener: TcpListener, handle: Handle) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(handle);
    axum::serve(listener, router).await
}

/// The peer of a connection; none if the kernel does not say.
#[derive(Debug, Clone)]
pub(super) struct Caller(Option<Peer>);

impl Connected<IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self::of(stream.io())
    }
}

impl Caller {
    pub(super) fn of(stream: &UnixStream) -> Self {
        let credentials = stream.peer_cred().ok();
        let ids = credentials.and_then(|credentials| {
            let pid = u32::try_from(credentials.pid()?).ok()?;
            Some((pid, credentials.uid())).filter(|(pid, _)| *pid != 0)
        });
        Self(ids.map(|(pid, uid)| {
            let process = sys::peer_process(stream.as_fd()).or_else(|_| sys::process(pid));
            let process = process.ok().map(Arc::new);
            Peer { pid, uid, process }
        }))
    }
}

async fn check_peer(
    State(handle): State<Handle>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    mut request: Request,
    next: Next,
) -> Result<Response, ControlError> {
    caller.confirm(&*handle)?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

impl Caller {
    /// Who it is.
    ///
    /// # Errors
    /// The kernel does not say.
    pub(super) fn peer(&self) -> Result<&Peer, ControlError> {
        let none = || ControlError::Forbidden("the kernel names no peer".into());
        self.0.as_ref().ok_or_else(none)
    }

    /// Who it is, if it may ask now: it may have ended, or entered a session, since it was
    /// last looked at.
    fn confirm(&self, handle: &dyn SessionsHandle) -> Result<&Peer, ControlError> {
        let peer = self.peer()?;
        handle.may_ask(peer)?;
        // Asked last: whoever had this pid by now was looked at above.
        peer.still_lives()?;
        Ok(peer)
    }
}

/// A pidfd is readable once its process has ended (pidfd_open(2)).
fn has_ended(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO) != Ok(0)
}

/// Work that reads files or waits for a lock: on a thread that serves nobody.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ControlError> {
    let failed = |error| ControlError::Unavailable(format!("the daemon failed: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

async fn status(State(handle): State<Handle>) -> Result<Json<Status>, ControlError> {
    aside(move || handle.status()).await.map(Json)
}

async fn metrics(State(handle): State<Handle>) -> impl IntoResponse {
    let format = [(CONTENT_TYPE, "text/plain; version=0.0.4")];
    (format, handle.metrics())
}

async fn list(State(handle): State<Handle>) -> Result<Json<Vec<SessionInfo>>, ControlError> {
    aside(move || handle.list()).await.map(Json)
}

async fn start(
    State(handle): State<Handle>,
    axum::Extension(caller): axum::Extension<Caller>,
    Json(request): Json<StartSession>,
) -> Result<Json<Started>, ControlError> {
    let identified = handle.identify(&request.who).await;
    aside(move || {
        let peer = caller.peer()?;
        // Once more: the issuer took its time, and so may have the caller.
        let result = identified.and_then(|principal| {
            caller.confirm(&*handle)?;
            handle.start(peer, principal, &request)
        });
        if let Err(error) = &result {
            handle.refused(peer, &Asked::Session(&request.who), error);
        }
        result.map(Json)
    })
    .await?
}

async fn show(
    State(handle): State<Handle>,
    Path(id): Path<String>,
) -> Result<Json<SessionInfo>, ControlError> {
    aside(move || {
        let none = || ControlError::NotFound(format!("there is no agent session {id}"));
        handle.show(&id).map(Json).ok_or_else(none)
    })
    .await?
}

async fn renew(
    State(handle): State<Handle>,
    axum::Extension(caller): axum::Extension<Caller>,
    Path(id): Path<String>,
    Json(request): Json<Renew>,
) -> Result<Json<Renewed>, ControlError> {
    let identified = handle.identify(&Claim::Token(request.token)).await;
    aside(move || {
        let peer = caller.peer()?;
        let result = identified.and_then(|fresh| handle.renew(peer, &id, &fresh));
        if let Err(error) = &result {
            handle.refused(peer, &Asked::Renewal(&id), error);
        }
        result.map(Json)
    })
    .await?
}

async fn revoke(
    State(handle): State<Handle>,
    axum::Extension(caller): axum::Extension<Caller>,
    Path(id): Path<String>,
    Json(request): Json<Revoke>,
) -> Result<Json<()>, ControlError> {
    aside(move || handle.revoke(caller.peer()?, &id, request.kill).map(Json)).await?
}

impl IntoResponse for ControlError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        (
            status,
            Json(Problem {
                error: self.to_string(),
            }),
        )
            .into_response()
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
