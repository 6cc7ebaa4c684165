//! The composition root: builds everything, in order, and says ready last.
//!
//! Start: preflight, lock, policy, audit, listeners, kernel programs, authority, adopted sessions,
//! destinations, control socket; then ready. Whatever fails before that ends the process.
//! Stop is the reverse, with running operations given time to end. The gate stays shut.

mod authority;
mod bindings;
mod degraded;
mod doors;
mod hidden;
mod launched;
mod lock;
mod namespaces;
mod policies;
mod refused;
mod secrets;
mod sessions;
mod shared;
mod tasks;
mod unix;
mod words;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::audit::{self, AuditLog, Event, Record};
use crate::capture::{
    self, Adopted, Events, Gate, GateConfig, ListenerConfig, MissingLayer, NetnsCookie,
};
use crate::config::{Config, Journald};
use crate::hold;
use crate::identity::Registry;
use crate::identity::token::Verifier;
use crate::protocol::postgres::analyse;
use crate::proxy::{self, Limits, Listeners, Proxy, Workers};
use crate::vault::Vault;
pub use authority::authority;
use doors::Doors;
use policies::{Loaded, Policies};
use shared::Shared;

/// Loads the policy at `path` and runs its own tests; says in one line that it is good.
/// Warnings go to stderr.
///
/// # Errors
/// Every mistake, with file, line and column; or each test that fails.
pub fn check_policy(path: &Path) -> anyhow::Result<String> {
    let (policy, warnings) = policies::load(path, 1)?;
    for warning in warnings {
        eprintln!("{warning}");
    }
    let (services, tests) = (policy.services().count(), policy.test_count());
    Ok(format!(
        "{}: good ({services} services, {tests} tests)",
        path.display()
    ))
}

/// `portcullisd --release`.
///
/// # Errors
/// Not root, a daemon runs, or agents are still alive.
pub fn release(config: &Config) -> anyhow::Result<()> {
    capture::preflight()?;
    let _lock = lock::take(&config.run_dir)?;
    let listener = ListenerConfig {
        v4: SocketAddrV4::new(Ipv4Addr::LOCALHOST, config.gate.port),
        v6: None,
        dns4: None,
        dns6: None,
        netns: NetnsCookie::current().context("cannot name the network namespace")?,
    };
    let gate = gate_config(config, listener);
    if capture::is_inhabited(&gate)? {
        bail!("agents are still alive, and would run without a gate: end them first");
    }
    capture::release(&gate)?;
    if let Ok(audit) = AuditLog::open(&config.audit.file, config.audit.journald == Journald::Auto) {
        let record = audit::Context::default();
        // The gate is open by now whether or not the log can be written.
        let _ = audit.append(&Record::new(Event::GateReleased, &record, &()));
    }
    println!("the gate is released: no program of it is attached any more");
    Ok(())
}

#[derive(Serialize)]
struct StartBody<'a> {
    version: &'a str,
    generation: u64,
    adopted: String,
    sessions: usize,
}

/// Runs the daemon until a signal stops it.
///
/// # Errors
/// Whatever keeps the gate from being in force, in one line.
pub fn run(config: Config) -> anyhow::Result<()> {
    capture::preflight()?;
    hold::begin()?;
    let policy = policies::load(&config.policies, 1)?;
    let vault = secrets::vault(&config, &policy.0)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(analyse::STACK)
        .on_thread_start(begin_thread)
        .build()
        .context("cannot start the worker threads")?;
    let workers = std::thread::available_parallelism()
        .and_then(|cores| Workers::start(cores.get(), analyse::STACK, begin_thread))
        .context("cannot start the serving threads")?;
    runtime.block_on(serve(config, policy, vault, workers))
}

fn begin_thread() {
    hold::this_thread_serves();
    analyse::this_thread_is_roomy();
}

async fn serve(
    config: Config,
    policy: Loaded,
    vault: Vault,
    workers: Workers,
) -> anyhow::Result<()> {
    let lock = lock::take(&config.run_dir)?;
    let audit = open_audit(&config)?;
    let tokens = Verifier::new(config.identity.issuers.clone())?;
    let vault = Arc::new(vault);
    let policies = take_policy(&config, policy, &vault, &tokens, &audit)?;
    let listeners = proxy::bind(config.gate.port)?;
    let (gate, events, missing) = put_up_gate(&config, &listeners)?;
    let authority = authority::hide_and_open(&config, &gate, &policies.current().load())?;
    // Agents could reach the path before, and put another file in the place of the open one.
    audit.reopen()?;
    let registry = Arc::new(Registry::default());
    let (adopted, ended) = sessions::adopt(&gate, &registry)?;
    let shared = Shared {
        audit,
        authority: Arc::new(authority),
        gate,
        policies,
        registry,
        vault,
    };
    let (proxy, reach) = shared.proxy(limits(&config), workers);
    reach.refresh().await?;
    let namespaces = shared.namespaces(&proxy, config.gate.port)?;
    let doors = Doors::open(&config, &shared.authority)?;
    let sessions = shared.sessions(&proxy, &namespaces, tokens, missing, &config)?;
    record_start(&shared, adopted, proxy.sessions.living())?;
    sessions.record_found_ends(&ended);

    hold::finish(secrets::needs(&shared.policies.current().load()))?;
    tokio::spawn(listeners.serve(Arc::clone(&proxy)));
    doors.serve(&sessions);
    tokio::spawn(Arc::clone(&shared.vault).keep());
    tasks::spawn(tasks::Parts {
        events,
        sessions,
        namespaces,
        reach,
        audit: Arc::clone(&shared.audit),
        proxy: Arc::clone(&proxy),
    });
    ready();
    until_stopped(&shared).await?;
    stop(&config, &proxy, &shared).await;
    drop(lock);
    Ok(())
}

fn open_audit(config: &Config) -> anyhow::Result<Arc<AuditLog>> {
    let journald = config.audit.journald == Journald::Auto;
    let audit = hold::serving(|| AuditLog::open(&config.audit.file, journald));
    Ok(Arc::new(audit.context("cannot start a thread")??))
}

fn take_policy(
    config: &Config,
    policy: Loaded,
    vault: &Arc<Vault>,
    tokens: &Verifier,
    audit: &Arc<AuditLog>,
) -> anyhow::Result<Arc<Policies>> {
    let issuers = tokens.issuers().map(str::to_owned).collect();
    let (vault, audit) = (Arc::clone(vault), Arc::clone(audit));
    let policies = Policies::start(&config.policies, policy, vault, issuers, audit)?;
    Ok(Arc::new(policies))
}

/// Programs attached and checked; layers that this host does not have must be accepted.
fn put_up_gate(
    config: &Config,
    listeners: &Listeners,
) -> anyhow::Result<(Arc<Gate>, Events, Vec<MissingLayer>)> {
    let listener = listeners.config();
    let listener =
        listener.context("getsockopt(SO_NETNS_COOKIE): Linux 5.14 or newer is needed")?;
    let (gate, events) = Gate::start(&gate_config(config, listener))?;
    let missing = degraded::missing(&gate);
    degraded::check(&missing, &config.gate.accept_degraded)?;
    for layer in &missing {
        tracing::warn!("{}", degraded::line(layer));
    }
    Ok((Arc::new(gate), events, missing))
}

fn record_start(shared: &Shared, adopted: Adopted, sessions: usize) -> anyhow::Result<()> {
    let body = StartBody {
        version: env!("CARGO_PKG_VERSION"),
        generation: shared.policies.generation(),
        adopted: format!("{adopted:?}").to_lowercase(),
        sessions,
    };
    let context = audit::Context::default();
    let record = Record::new(Event::DaemonStart, &context, &body);
    Ok(shared.audit.append(&record)?)
}

fn gate_config(config: &Config, listener: ListenerConfig) -> GateConfig {
    GateConfig {
        cgroup: config.gate.cgroup.clone(),
        bpffs: config.gate.bpffs.clone(),
        pins: config.gate.pins.clone(),
        listener,
        connections: config.limits.connections,
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        connections: usize::try_from(config.limits.connections).unwrap_or(usize::MAX),
        startup: Duration::from_secs(config.limits.startup_seconds),
        message: config.limits.message_bytes,
        memory: config.limits.memory_bytes,
    }
}

fn ready() {
    tracing::info!("ready");
    // Without a service manager there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}

async fn until_stopped(shared: &Shared) -> anyhow::Result<()> {
    tokio::select! {
        result = stopped() => result,
        result = reload_on_hangup(&shared.policies, &shared.audit) => result,
    }
}

async fn stopped() -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

async fn reload_on_hangup(policies: &Arc<Policies>, audit: &Arc<AuditLog>) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    while hangup.recv().await.is_some() {
        policies.reload();
        if let Err(error) = audit.reopen() {
            tracing::error!("{error}");
        }
    }
    Ok(())
}

async fn stop(config: &Config, proxy: &Proxy, shared: &Shared) {
    tracing::info!("stopping; the gate stays shut");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    proxy
        .drain(Duration::from_secs(config.limits.drain_seconds))
        .await;
    let context = audit::Context::default();
    let record = Record::new(Event::DaemonStop, &context, &());
    if let Err(error) = shared.audit.append(&record) {
        tracing::error!("{error}");
    }
    shared.vault.close().await;
}
