//! What runs beside the connections: kernel events into the record, ended sessions,
//! policy changes on disk, names that resolve anew, the audit log's late lines.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::bindings::Tree;
use super::namespaces::{self, Namespaces};
use super::policies::Policies;
use super::refused::Recorder;
use super::sessions::Sessions;
use crate::audit::AuditLog;
use crate::capture::{CaptureError, Events, Gate};
use crate::dns::Resolver;
use crate::proxy::{self, Destinations, Proxy};

/// How soon an empty session is noticed.
const REAP: Duration = Duration::from_millis(250);
/// How soon the end of a flood of refusals is told.
const TELL: Duration = Duration::from_secs(1);
/// How long late audit lines may wait.
const FLUSH: Duration = Duration::from_millis(100);
/// How often services' names are resolved anew, and the daemon's own files looked for.
const RESOLVE: Duration = Duration::from_secs(30);
/// Files of a policy are often changed together.
const SETTLE: Duration = Duration::from_millis(200);

/// What the tasks need.
pub(super) struct Parts {
    pub(super) events: Events,
    pub(super) sessions: Arc<Sessions>,
    pub(super) namespaces: Arc<Namespaces>,
    pub(super) reach: Reach,
    pub(super) audit: Arc<AuditLog>,
    pub(super) proxy: Arc<Proxy>,
}

/// Which addresses the kernel lets an agent ask for.
pub(super) struct Reach {
    pub(super) gate: Arc<Gate>,
    pub(super) destinations: Arc<ArcSwap<Destinations>>,
    pub(super) resolver: Arc<Resolver>,
    pub(super) policies: Arc<Policies>,
}

impl Reach {
    /// Resolves the policy's services, and tells the proxy and the kernel.
    pub(super) async fn refresh(&self) -> Result<(), CaptureError> {
        let policy = self.policies.current().load_full();
        let found = Arc::new(proxy::resolve(&policy).await);
        self.destinations.store(Arc::clone(&found));
        self.gate.set_destinations(&found.addresses())?;
        // Last: who is answered may connect.
        self.resolver.set_zone(found.zone.clone());
        Ok(())
    }
}

/// Starts them all; they end with the process.
pub(super) fn spawn(parts: Parts) {
    let Parts {
        events,
        sessions,
        namespaces,
        reach,
        audit,
        proxy,
    } = parts;
    let recorder = Recorder {
        sessions: Arc::clone(&sessions),
        audit: Arc::clone(&audit),
        metrics: Arc::clone(&proxy.metrics),
        namespaces: Arc::clone(&namespaces),
    };
    tokio::spawn(recorder.run(events));
    namespaces::watch(&namespaces);
    let reaper = Arc::clone(&sessions);
    tokio::spawn(every_aside(REAP, move || reaper.reap()));
    let teller = Arc::clone(&sessions);
    tokio::spawn(every(TELL, move || teller.tell_dropped()));
    tokio::spawn(every(FLUSH, move || {
        if let Err(error) = audit.flush() {
            proxy.report(&error.to_string());
        }
    }));
    watch(Arc::clone(&reach.policies));
    follow_cgroups(&sessions, &reach);
    tokio::spawn(follow_policy(reach, sessions));
}

async fn every(period: Duration, mut work: impl FnMut()) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        work();
    }
}

/// The same for work that waits, on a thread that serves nobody; never twice at once.
async fn every_aside(period: Duration, work: impl Fn() + Send + Sync + 'static) {
    let work = Arc::new(work);
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let work = Arc::clone(&work);
        if let Err(error) = spawn_blocking(move || work()).await {
            tracing::error!("a task of the daemon failed: {error}");
        }
    }
}

/// Cgroups that the policy binds: those that are there, and new ones, on a thread, as
/// waiting for them blocks.
fn follow_cgroups(sessions: &Arc<Sessions>, reach: &Reach) {
    let enforced = reach.gate.enforced().to_owned();
    let followed = Tree::new(sessions, &enforced).and_then(|tree| {
        let thread = std::thread::Builder::new().name("cgroups".into());
        thread.spawn(move || tree.follow(&enforced))
    });
    if let Err(error) = followed {
        tracing::error!("new cgroups are not seen: {error}");
    }
}

async fn follow_policy(reach: Reach, sessions: Arc<Sessions>) {
    let mut changes = reach.policies.changes();
    loop {
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = sleep(RESOLVE) => {}
        }
        let aside = Arc::clone(&sessions);
        let followed = spawn_blocking(move || {
            aside.allow_unix_sockets();
            aside.bind_anew();
            aside.hide_files()
        });
        match followed.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("files to hide from sessions: {error}"),
            Err(error) => tracing::error!("a task of the daemon failed: {error}"),
        }
        if let Err(error) = reach.refresh().await {
            tracing::error!("destinations: {error}");
        }
    }
}

/// Reloads when a file of the policy changes. The watch is set before this returns, so that
/// nothing is missed from ready on; waiting for it blocks, so that has a thread of its own.
fn watch(policies: Arc<Policies>) {
    let (changed, changes) = mpsc::channel(1);
    let spawned = watch_directory(policies.path()).and_then(|inotify| {
        let watcher = std::thread::Builder::new().name("policy-watch".into());
        watcher.spawn(move || report_changes(&inotify, &changed))
    });
    if let Err(error) = spawned {
        tracing::error!("policy files are not watched (SIGHUP still reloads): {error}");
    }
    tokio::spawn(reload_on_change(policies, changes));
}

async fn reload_on_change(policies: Arc<Policies>, mut changes: mpsc::Receiver<()>) {
    while changes.recv().await.is_some() {
        sleep(SETTLE).await;
        while changes.try_recv().is_ok() {}
        policies.reload();
    }
}

fn watch_directory(path: &Path) -> io::Result<Inotify> {
    let directory = if path.is_dir() {
        path.to_owned()
    } else {
        parent(path)
    };
    let flags = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_CREATE;
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    inotify.add_watch(&directory, flags)?;
    Ok(inotify)
}

fn report_changes(inotify: &Inotify, changed: &mpsc::Sender<()>) {
    while inotify.read_events().is_ok() {
        // A full queue means that a reload is due anyway.
        if let Err(mpsc::error::TrySendError::Closed(())) = changed.try_send(()) {
            return;
        }
    }
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
