//! Serves the control socket.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::IncomingStream;
use axum::{Json, Router};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Group, chown};
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};

use super::api::{Problem, SessionInfo, StartSession, Started, Status};
use crate::sys;

/// Requests are a few hundred bytes.
const BODY_LIMIT: usize = 64 * 1024;

/// Who is at the other end, as the kernel says (`SO_PEERCRED`).
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Process id at the time of its connect().
    pub pid: u32,
    /// User.
    pub uid: u32,
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
    /// The daemon can't do it now.
    #[error("{0}")]
    Unavailable(String),
}

/// What the server needs from the rest of the daemon.
pub trait SessionsHandle: Send + Sync + 'static {
    /// Whether the caller may ask anything at all; nobody inside an agent session may.
    fn may_ask(&self, peer: Peer) -> Result<(), ControlError>;

    /// Makes a session and puts the caller into it.
    fn start(&self, peer: Peer, request: &StartSession) -> Result<Started, ControlError>;

    /// The live sessions.
    fn list(&self) -> Vec<SessionInfo>;

    /// The state of the daemon.
    fn status(&self) -> Status;

    /// Its counters, as Prometheus reads them.
    fn metrics(&self) -> String;
}

/// The socket can't be opened.
#[derive(Debug, Error)]
pub enum SocketError {
    /// A system call failed.
    #[error("cannot open the control socket {path}: {source}")]
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
pub fn bind(path: &Path, group: Option<&str>) -> Result<UnixListener, SocketError> {
    let failed = |source| SocketError::Open {
        path: path.display().to_string(),
        source,
    };
    let group = group.map(find_group).transpose()?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    // Never open to others, not even between bind and chmod.
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    let listener = listener.map_err(failed)?;
    if let Some(group) = group {
        chown(path, None, Some(group)).map_err(|errno| failed(errno.into()))?;
        let mode = std::fs::Permissions::from_mode(0o660);
        std::fs::set_permissions(path, mode).map_err(failed)?;
    }
    Ok(listener)
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
struct Caller {
    peer: Option<Peer>,
    /// Linux 6.5: tells whether the process that connected is still the one of this pid.
    process: Option<Arc<OwnedFd>>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let credentials = stream.io().peer_cred().ok();
        let peer = credentials.and_then(|credentials| {
            let pid = u32::try_from(credentials.pid()?)
                .ok()
                .filter(|&pid| pid != 0)?;
            Some(Peer {
                pid,
                uid: credentials.uid(),
            })
        });
        let process = sys::peer_process(stream.io().as_fd()).ok().map(Arc::new);
        Self { peer, process }
    }
}

async fn check_peer(
    State(handle): State<Handle>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    mut request: Request,
    next: Next,
) -> Result<Response, ControlError> {
    let forbidden = |why: &str| ControlError::Forbidden(why.into());
    let peer = caller
        .peer
        .ok_or_else(|| forbidden("the kernel names no peer"))?;
    handle.may_ask(peer)?;
    // Asked last: whoever had this pid by now was looked at above.
    if caller.process.is_some_and(|process| has_ended(&process)) {
        return Err(forbidden("the process that connected has ended"));
    }
    request.extensions_mut().insert(peer);
    Ok(next.run(request).await)
}

/// A pidfd is readable once its process has ended (pidfd_open(2)).
fn has_ended(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO) != Ok(0)
}

async fn status(State(handle): State<Handle>) -> Json<Status> {
    Json(handle.status())
}

async fn metrics(State(handle): State<Handle>) -> impl IntoResponse {
    let format = [(CONTENT_TYPE, "text/plain; version=0.0.4")];
    (format, handle.metrics())
}

async fn list(State(handle): State<Handle>) -> Json<Vec<SessionInfo>> {
    Json(handle.list())
}

async fn start(
    State(handle): State<Handle>,
    axum::Extension(peer): axum::Extension<Peer>,
    Json(request): Json<StartSession>,
) -> Result<Json<Started>, ControlError> {
    handle.start(peer, &request).map(Json)
}

impl IntoResponse for ControlError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
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
