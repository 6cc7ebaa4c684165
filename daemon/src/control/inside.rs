//! Serves the socket that processes inside agent sessions may connect to.
//!
//! Everybody on the host may connect; who is in no live session gets nothing. It tells a
//! process which session it is in, and makes narrower ones. So many connections at once,
//! and a request must come in time: a hostile agent costs the daemon no more.

use std::collections::HashMap;
use std::fs::{DirBuilder, Permissions, set_permissions, symlink_metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::unistd::geteuid;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::Peer;
use super::api::{Narrow, SessionInfo, Started};
use super::server::{Caller, ControlError, SocketError, aside, bind_private};
use crate::types::CgroupId;

/// Connections at once.
const CONNECTIONS: usize = 512;
/// Of these for one outermost session with all that is inside it; also for all who are in
/// none together.
const EACH: usize = 8;
/// Requests that are worked on at once.
const AT_WORK: usize = 2;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests are a few names.
const BODY_LIMIT: usize = 16 * 1024;

/// What the server needs from the rest of the daemon.
pub trait InsideHandle: Send + Sync + 'static {
    /// The outermost session that the caller is in, ended or not.
    fn outermost(&self, peer: &Peer) -> Option<CgroupId>;

    /// The session that the caller is in.
    fn own(&self, peer: &Peer) -> Result<SessionInfo, ControlError>;

    /// Makes a narrower session and puts the caller into it.
    fn narrow(&self, peer: &Peer, request: &Narrow) -> Result<Started, ControlError>;

    /// A narrower session was asked for and refused.
    fn refused(&self, peer: &Peer, why: &ControlError);
}

/// Opens the socket, which everybody may connect to, in a directory that only the daemon
/// may write to.
///
/// # Errors
/// A step that the kernel refuses.
pub fn bind(path: &Path) -> Result<UnixListener, SocketError> {
    make_directory(path)?;
    open(path).map_err(failed(path))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> SocketError {
    move |source| SocketError::Open {
        path: path.display().to_string(),
        source,
    }
}

/// Makes that directory for a socket, or takes the one that is there.
///
/// # Errors
/// A step that the kernel refuses; it is somebody else's.
pub fn make_directory(path: &Path) -> Result<(), SocketError> {
    own_directory(path.parent().unwrap_or(path)).map_err(failed(path))
}

fn own_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)?;
    let found = symlink_metadata(directory)?;
    if !found.is_dir() || found.uid() != geteuid().as_raw() {
        let problem = "its directory is no directory of the daemon's own: remove it";
        return Err(io::Error::other(problem));
    }
    // Whatever the mask was, and whoever made it before.
    set_permissions(directory, Permissions::from_mode(0o755))
}

fn open(path: &Path) -> io::Result<UnixListener> {
    let listener = bind_private(path)?;
    set_permissions(path, Permissions::from_mode(0o666))?;
    Ok(listener)
}

type Handle = Arc<dyn InsideHandle>;

/// Serves for as long as it is polled.
pub async fn serve(listener: UnixListener, handle: Handle) {
    let (places, shares) = (Arc::new(Semaphore::new(CONNECTIONS)), Shares::default());
    let at_work = Arc::new(Semaphore::new(AT_WORK));
    loop {
        // Who is one too many waits in the listener's queue.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let visit = Arc::new(Visit {
                    caller: Caller::of(&stream),
                    handle: Arc::clone(&handle),
                    at_work: Arc::clone(&at_work),
                });
                tokio::spawn(admit(stream, visit, place, shares.clone()));
            }
            Err(error) => {
                tracing::warn!("the agents' socket: accept: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// How many connections each outermost session has.
#[derive(Debug, Clone, Default)]
struct Shares(Arc<Mutex<HashMap<Option<CgroupId>, usize>>>);

/// One connection's part, given back when it is dropped.
#[derive(Debug)]
struct Share(Shares, Option<CgroupId>);

impl Shares {
    fn take(&self, whose: Option<CgroupId>) -> Option<Share> {
        let mut shares = self.lock();
        let taken = shares.entry(whose).or_default();
        if *taken >= EACH {
            return None;
        }
        *taken += 1;
        Some(Share(self.clone(), whose))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<CgroupId>, usize>> {
        // Numbers only.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut shares = self.0.lock();
        if let Some(taken) = shares.get_mut(&self.1) {
            *taken -= 1;
            if *taken == 0 {
                shares.remove(&self.1);
            }
        }
    }
}

/// One connection, and whom it asks.
struct Visit {
    handle: Handle,
    caller: Caller,
    at_work: Arc<Semaphore>,
}

impl Visit {
    /// Aside, and few at once: however much there is to do for agents, others are served.
    async fn work<T: Send + 'static>(
        self: Arc<Self>,
        work: impl FnOnce(&Self, &Peer) -> Result<T, ControlError> + Send + 'static,
    ) -> Result<Json<T>, ControlError> {
        let busy = |_| ControlError::Unavailable("the daemon stops".into());
        let turn = Arc::clone(&self.at_work)
            .acquire_owned()
            .await
            .map_err(busy)?;
        aside(move || {
            let _turn = turn;
            let peer = self.caller.peer()?;
            work(&self, peer).map(Json)
        })
        .await?
    }
}

/// Who has its share already is shown out at once.
async fn admit(stream: UnixStream, visit: Arc<Visit>, place: OwnedSemaphorePermit, shares: Shares) {
    let asker = Arc::clone(&visit);
    let outermost = aside(move || {
        let peer = asker.caller.peer().ok()?;
        asker.handle.outermost(peer)
    });
    if let Ok(outermost) = outermost.await
        && let Some(share) = shares.take(outermost)
    {
        answer(stream, visit, (place, share)).await;
    }
}

async fn answer(stream: UnixStream, visit: Arc<Visit>, _place: (OwnedSemaphorePermit, Share)) {
    let router = Router::new()
        .route("/v1/self", get(own))
        .route("/v1/self/sessions", post(narrow))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(visit);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // Its own fault if it is too slow, or gone.
    let _ = timeout(PATIENCE, connection).await;
}

async fn own(State(visit): State<Arc<Visit>>) -> Result<Json<SessionInfo>, ControlError> {
    let look = |visit: &Visit, peer: &Peer| {
        let info = visit.handle.own(peer)?;
        // Asked last: whoever had this pid by now was looked at above.
        peer.still_lives()?;
        Ok(info)
    };
    visit.work(look).await
}

async fn narrow(
    State(visit): State<Arc<Visit>>,
    Json(request): Json<Narrow>,
) -> Result<Json<Started>, ControlError> {
    let start = move |visit: &Visit, peer: &Peer| {
        let started = visit.handle.narrow(peer, &request);
        if let Err(error) = &started {
            visit.handle.refused(peer, error);
        }
        started
    };
    visit.work(start).await
}

/// What outsiders are told.
pub const NOT_INSIDE: &str = "you are in no agent session: use the control socket";

#[cfg(test)]
#[path = "inside_tests.rs"]
mod tests;
