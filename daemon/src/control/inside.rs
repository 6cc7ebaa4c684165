//! Serves the socket that processes inside agent sessions may connect to.
//!
//! Everybody on the host may connect; who is in no live session gets nothing. It tells a
//! process which session it is in, and makes narrower ones. So many connections at once,
//! and a request must come in time: a hostile agent costs the daemon no more.

use std::fs::{DirBuilder, Permissions, set_permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::Peer;
use super::api::{Narrow, SessionInfo, Started};
use super::server::{Caller, ControlError, SocketError, bind_private};

/// Connections at once.
const CONNECTIONS: usize = 64;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests are a few names.
const BODY_LIMIT: usize = 16 * 1024;

/// What the server needs from the rest of the daemon.
pub trait InsideHandle: Send + Sync + 'static {
    /// The session that the caller is in.
    fn own(&self, peer: Peer) -> Result<SessionInfo, ControlError>;

    /// Makes a narrower session and puts the caller into it.
    fn narrow(&self, peer: Peer, request: &Narrow) -> Result<Started, ControlError>;
}

/// Opens the socket, which everybody may connect to, in a directory that only the daemon
/// may write to.
///
/// # Errors
/// A step that the kernel refuses.
pub fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    open(path).map_err(|source| SocketError::Open {
        path: path.display().to_string(),
        source,
    })
}

fn open(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)?;
        // Whatever the mask was, and whoever made it before.
        set_permissions(directory, Permissions::from_mode(0o755))?;
    }
    let listener = bind_private(path)?;
    set_permissions(path, Permissions::from_mode(0o666))?;
    Ok(listener)
}

type Handle = Arc<dyn InsideHandle>;

/// Serves for as long as it is polled.
pub async fn serve(listener: UnixListener, handle: Handle) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Who is one too many waits in the listener's queue.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(answer(stream, Arc::clone(&handle), place));
            }
            Err(error) => {
                tracing::warn!("the agents' socket: accept: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, handle: Handle, _place: OwnedSemaphorePermit) {
    let caller = Caller::of(&stream);
    let router = Router::new()
        .route("/v1/self", get(own))
        .route("/v1/self/sessions", post(narrow))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state((handle, caller));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // Its own fault if it is too slow, or gone.
    let _ = timeout(PATIENCE, connection).await;
}

async fn own(
    State((handle, caller)): State<(Handle, Caller)>,
) -> Result<Json<SessionInfo>, ControlError> {
    let info = handle.own(caller.peer()?)?;
    // Asked last: whoever had this pid by now was looked at above.
    caller.still_lives()?;
    Ok(Json(info))
}

async fn narrow(
    State((handle, caller)): State<(Handle, Caller)>,
    Json(request): Json<Narrow>,
) -> Result<Json<Started>, ControlError> {
    let peer = caller.peer()?;
    handle.own(peer)?;
    // Asked last, as above.
    caller.still_lives()?;
    handle.narrow(peer, &request).map(Json)
}
