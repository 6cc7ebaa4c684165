//! Connections: accepted from the gate's listener, tied to an agent session and a
//! service, driven through their protocol session to the upstream.
//!
//! [`connection`] is the only place with client sockets. Whoever has no origin in the
//! kernel's maps, no session or no service is reset at once. Absent on purpose: any
//! knowledge of a protocol's bytes.

mod batch;
mod budget;
mod cancel;
mod connection;
mod destinations;
mod linger;
mod listener;
mod pump;
mod refusals;
mod stream;
mod upstream;
mod upstream_tls;
mod workers;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::audit::{AuditLog, Flood};
use crate::authority::Authority;
use crate::capture::OriginSource;
use crate::dns::Resolver;
use crate::identity::Registry;
use crate::metrics::Metrics;
use crate::policy::Policy;
use crate::protocol::postgres::analyse::Cache;
use crate::types::CgroupId;
use crate::vault::Vault;
pub use destinations::{Destinations, Found, Target, resolve};
pub use listener::{Listeners, bind, bind_abroad};
use refusals::RefusalLog;
use upstream_tls::TlsClients;
pub use workers::Workers;

/// Analysed statements that are kept, and the bytes of their texts.
const STATEMENTS: usize = 16_384;
const STATEMENT_BYTES: usize = 16 * 1024 * 1024;

/// Refused connections of one session that are recorded each second.
const REFUSALS: u32 = 20;

/// Bounds of the proxy.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// From accept to the end of the login.
    pub startup: Duration,
    /// The longest message that is held, in bytes.
    pub message: usize,
    /// What all connections together hold of messages, beside 64 KiB for each, in bytes;
    /// those of one agent session a quarter of it, or one message where that is more.
    pub memory: usize,
}

/// What every connection needs. Immutable but for the policy and what follows from it.
pub struct Proxy {
    /// The policy in force.
    pub policy: Arc<ArcSwap<Policy>>,
    /// Its generation, sent once it is in force.
    policy_changes: watch::Receiver<u64>,
    /// The addresses of its services.
    pub destinations: Arc<ArcSwap<Destinations>>,
    /// The live sessions.
    pub sessions: Arc<Registry>,
    /// The audit log.
    pub audit: Arc<AuditLog>,
    /// Where connections came from.
    pub origins: Arc<dyn OriginSource>,
    /// Answers the agents' queries.
    pub resolver: Arc<Resolver>,
    /// The services' credentials.
    pub vault: Arc<Vault>,
    /// Signs for the agents' side of TLS.
    pub authority: Arc<Authority>,
    /// Analysed statements.
    pub statements: Arc<Cache>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Bounds.
    pub limits: Limits,
    workers: Workers,
    budget: budget::Budget,
    cancels: cancel::Cancels,
    tls: TlsClients,
    refusals: RefusalLog,
    /// Of refused connections, by the cgroup of the session; 0 for all that have none.
    flood: Mutex<Flood<CgroupId, ()>>,
    open: AtomicUsize,
    /// Connections with operations that run.
    busy: AtomicUsize,
    draining: watch::Sender<bool>,
}

/// The parts of a [`Proxy`] that the composition root supplies.
pub struct Parts {
    /// See [`Proxy::policy`].
    pub policy: Arc<ArcSwap<Policy>>,
    /// Tells its generation once another one is in force.
    pub policy_changes: watch::Receiver<u64>,
    /// See [`Proxy::destinations`].
    pub destinations: Arc<ArcSwap<Destinations>>,
    /// See [`Proxy::sessions`].
    pub sessions: Arc<Registry>,
    /// See [`Proxy::audit`].
    pub audit: Arc<AuditLog>,
    /// See [`Proxy::origins`].
    pub origins: Arc<dyn OriginSource>,
    /// See [`Proxy::resolver`].
    pub resolver: Arc<Resolver>,
    /// See [`Proxy::metrics`].
    pub metrics: Arc<Metrics>,
    /// See [`Proxy::vault`].
    pub vault: Arc<Vault>,
    /// See [`Proxy::authority`].
    pub authority: Arc<Authority>,
    /// See [`Proxy::limits`].
    pub limits: Limits,
    /// The threads that serve.
    pub workers: Workers,
}

impl Proxy {
    /// A proxy that has no connection yet.
    pub fn new(parts: Parts) -> Self {
        Self {
            policy: parts.policy,
            policy_changes: parts.policy_changes,
            destinations: parts.destinations,
            sessions: parts.sessions,
            audit: parts.audit,
            origins: parts.origins,
            resolver: parts.resolver,
            vault: parts.vault,
            authority: parts.authority,
            statements: Arc::new(Cache::new(STATEMENTS, STATEMENT_BYTES)),
            metrics: parts.metrics,
            limits: parts.limits,
            workers: parts.workers,
            budget: budget::Budget::new(parts.limits.memory, parts.limits.message),
            cancels: cancel::Cancels::default(),
            tls: TlsClients::default(),
            refusals: RefusalLog::default(),
            flood: Mutex::new(Flood::new(REFUSALS)),
            open: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            draining: watch::Sender::new(false),
        }
    }

    /// Logs why things are refused, at most once a second for each reason.
    pub fn report(&self, reason: &str) {
        self.refusals.say(reason);
    }

    /// To be called once a second: says what was dropped of floods of refused connections.
    pub fn tell_dropped(&self) {
        connection::tell_dropped(self);
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn busy(&self) -> usize {
        self.busy.load(Ordering::Relaxed)
    }

    /// Lets running operations end and connections close; waits for it at most `limit`.
    pub async fn drain(&self, limit: Duration) {
        self.draining.send_replace(true);
        let deadline = tokio::time::Instant::now() + limit;
        while self.open() > 0 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Counts a connection for as long as it lives.
struct OpenGuard(Arc<Proxy>);

impl OpenGuard {
    fn new(proxy: &Arc<Proxy>) -> Self {
        proxy.open.fetch_add(1, Ordering::Relaxed);
        proxy.metrics.connected();
        Self(Arc::clone(proxy))
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a connection while operations of it run.
struct Busy {
    proxy: Arc<Proxy>,
    now: bool,
}

impl Busy {
    fn new(proxy: &Arc<Proxy>) -> Self {
        Self {
            proxy: Arc::clone(proxy),
            now: false,
        }
    }

    fn is_now(&mut self, busy: bool) {
        let count = &self.proxy.busy;
        match (self.now, busy) {
            (false, true) => count.fetch_add(1, Ordering::Relaxed),
            (true, false) => count.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
        self.now = busy;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.is_now(false);
    }
}
