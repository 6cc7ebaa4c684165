//! The gate in the network namespaces of its agents: opened where a session's process is
//! seen in a new one, closed when none is left there.
//!
//! A process is seen when its session starts, when it runs a program, when the kernel
//! refuses it for want of a listener, and by a scan each second. Until the listener is open
//! everything from there is refused. The listeners hold their namespace: closing them lets
//! it go. Upstreams are dialled from the daemon's own namespace always.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::capture::{Execs, Gate, GateRefused, Netns, NetnsCookie, NetnsId, Reason, cgroupfs};
use crate::identity::{AgentSession, Registry};
use crate::proxy::{self, Proxy};
use crate::types::CgroupId;

/// How often sessions' processes are looked at.
const SCAN: Duration = Duration::from_secs(1);
/// Scans that must find nobody before a namespace is let go.
const EMPTY_SCANS: u8 = 2;
/// Namespaces that one session may have opened at once; each costs descriptors.
const EACH_SESSION: usize = 16;
/// Refusals that may wait to be looked at; more of them come if they matter.
const WAITING: usize = 64;

/// What listeners are made of.
pub(super) struct Parts {
    pub(super) gate: Arc<Gate>,
    pub(super) registry: Arc<Registry>,
    pub(super) proxy: Arc<Proxy>,
    /// Tried first in each namespace.
    pub(super) port: u16,
}

/// The namespaces that are served, beside the daemon's own.
pub(super) struct Namespaces {
    parts: Parts,
    own: NetnsId,
    runtime: Handle,
    open: Mutex<HashMap<NetnsId, Served>>,
    noticed: mpsc::Sender<(u32, CgroupId)>,
    to_look_at: Mutex<Option<mpsc::Receiver<(u32, CgroupId)>>>,
}

/// One namespace with listeners of ours.
struct Served {
    cookie: NetnsCookie,
    /// The session that it was opened for.
    session: CgroupId,
    listeners: AbortHandle,
    empty_scans: u8,
}

impl Namespaces {
    /// None is open yet. Needs the runtime's context.
    ///
    /// # Errors
    /// `/proc` does not tell the daemon's own namespace.
    pub(super) fn new(parts: Parts) -> io::Result<Self> {
        let (noticed, to_look_at) = mpsc::channel(WAITING);
        Ok(Self {
            parts,
            own: NetnsId::of_thread(std::process::id())?,
            runtime: Handle::current(),
            open: Mutex::default(),
            noticed,
            to_look_at: Mutex::new(Some(to_look_at)),
        })
    }

    /// Opens the gate in the namespace of a thread of the session, if it is new.
    ///
    /// # Errors
    /// The thread is gone or is not of this session, the session has too many namespaces,
    /// or the kernel refuses a step.
    pub(super) fn open_for(&self, tid: u32, session: &AgentSession) -> io::Result<()> {
        let id = NetnsId::of_thread(tid)?;
        let mut open = self.lock();
        if id == self.own || open.contains_key(&id) {
            return Ok(());
        }
        let netns = Netns::of_thread(tid)?;
        // What was opened is the namespace of this session only if the thread still is.
        if !cgroupfs::of_process(tid)?.starts_with(&session.path) {
            return Err(io::Error::other("the process is not in the session"));
        }
        let theirs = open.values().filter(|one| one.session == session.cgroup);
        if theirs.count() >= EACH_SESSION {
            return Err(io::Error::other(format!(
                "the session has {EACH_SESSION} network namespaces already"
            )));
        }
        if netns.id() != self.own && !open.contains_key(&netns.id()) {
            open.insert(netns.id(), self.serve(&netns, session)?);
        }
        Ok(())
    }

    fn serve(&self, netns: &Netns, session: &AgentSession) -> io::Result<Served> {
        let listeners = netns.run(|| {
            let _context = self.runtime.enter();
            Ok(proxy::bind_abroad(self.parts.port)?)
        })?;
        let config = listeners.config()?;
        self.parts
            .gate
            .open_listener(&config)
            .map_err(io::Error::other)?;
        let proxy = Arc::clone(&self.parts.proxy);
        let task = self.runtime.spawn(listeners.serve(proxy));
        tracing::info!(
            netns = config.netns.0,
            session = %session.id,
            "the gate is open in another network namespace"
        );
        Ok(Served {
            cookie: config.netns,
            session: session.cgroup,
            listeners: task.abort_handle(),
            empty_scans: 0,
        })
    }

    /// Looks at every process of every session: opens what is new, closes what is empty.
    pub(super) fn scan(&self) {
        let mut inhabited = HashSet::new();
        for session in self.parts.registry.list() {
            for tid in cgroupfs::threads(&session.path) {
                let Ok(id) = NetnsId::of_thread(tid) else {
                    continue;
                };
                if id != self.own && inhabited.insert(id) {
                    self.look(tid, &session);
                }
            }
        }
        self.close_empty(&inhabited);
    }

    fn close_empty(&self, inhabited: &HashSet<NetnsId>) {
        self.lock().retain(|id, served| {
            if inhabited.contains(id) {
                served.empty_scans = 0;
                return true;
            }
            served.empty_scans = served.empty_scans.saturating_add(1);
            if served.empty_scans < EMPTY_SCANS {
                return true;
            }
            if let Err(error) = self.parts.gate.close_listener(served.cookie) {
                tracing::error!(netns = served.cookie.0, "{error}");
                return true;
            }
            served.listeners.abort();
            tracing::info!(netns = served.cookie.0, "the gate has left the namespace");
            false
        });
    }

    fn look(&self, tid: u32, session: &AgentSession) {
        if let Err(error) = self.open_for(tid, session)
            && error.kind() != io::ErrorKind::NotFound
        {
            let session = &session.id;
            self.parts.proxy.report(&format!(
                "session {session}: no gate in a network namespace: {error}"
            ));
        }
    }

    /// A refusal for want of a listener: have its process looked at.
    pub(super) fn notice(&self, refused: &GateRefused) {
        if refused.reason == Reason::NoListener
            && let Some(session) = refused.session
        {
            // With so many waiting already, the scan is soon enough.
            let _ = self.noticed.try_send((refused.pid, session));
        }
    }

    fn look_at_process(&self, pid: u32, session: CgroupId) {
        let Some(session) = self.parts.registry.known(session) else {
            return;
        };
        // Each thread may be in a namespace of its own.
        for entry in fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let tid = entry.file_name().to_str().and_then(|tid| tid.parse().ok());
            if let Some(tid) = tid {
                self.look(tid, &session);
            }
        }
    }

    /// A process anywhere on the host has run a program.
    fn look_at_exec(&self, pid: u32) {
        let Ok(id) = NetnsId::of_thread(pid) else {
            return;
        };
        if id == self.own || self.lock().contains_key(&id) {
            return;
        }
        let Ok(cgroup) = cgroupfs::of_process(pid) else {
            return;
        };
        let sessions = self.parts.registry.list();
        let session = sessions.iter().find(|one| cgroup.starts_with(&one.path));
        if let Some(session) = session {
            self.look(pid, session);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NetnsId, Served>> {
        // Each change of the map is one call.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts what watches for new namespaces, on threads, as `/proc` and `setns` block.
pub(super) fn watch(namespaces: &Arc<Namespaces>) {
    let ours = Arc::clone(namespaces);
    on_thread("netns-scan", move || {
        loop {
            std::thread::sleep(SCAN);
            ours.scan();
        }
    });
    let ours = Arc::clone(namespaces);
    on_thread("netns-refused", move || {
        let taken = ours
            .to_look_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(mut to_look_at) = taken else {
            return;
        };
        while let Some((pid, session)) = to_look_at.blocking_recv() {
            ours.look_at_process(pid, session);
        }
    });
    let ours = Arc::clone(namespaces);
    on_thread("netns-exec", move || {
        let result = Execs::open().and_then(|execs| {
            loop {
                ours.look_at_exec(execs.next()?);
            }
        });
        if let Err::<(), _>(error) = result {
            tracing::warn!("new network namespaces are noticed late: process events: {error}");
        }
    });
}

fn on_thread(name: &str, work: impl FnOnce() + Send + 'static) {
    let builder = std::thread::Builder::new().name(name.into());
    if let Err(error) = builder.spawn(work) {
        tracing::error!("cannot start the thread {name}: {error}");
    }
}
