//! The policy in force: loaded at start or the daemon does not start; reloaded whole or
//! not at all.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::anyhow;
use arc_swap::ArcSwap;
use serde::Serialize;
use tokio::sync::watch;

use crate::audit::{AuditLog, Context, Event, Record};
use crate::policy::{Policy, Service, Warning};
use crate::protocol::postgres::analyse;
use crate::vault::Vault;

/// The policy and how its last reload went.
pub(super) struct Policies {
    path: PathBuf,
    current: Arc<ArcSwap<Policy>>,
    /// Generations given out, those of rejected policies too.
    generations: AtomicU64,
    problem: Mutex<String>,
    audit: Arc<AuditLog>,
    vault: Arc<Vault>,
    /// Those that the configuration lists.
    issuers: BTreeSet<String>,
    changed: watch::Sender<u64>,
}

#[derive(Serialize)]
struct LoadedBody {
    generation: u64,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// A policy that has passed its own tests, and what is odd about it.
pub(super) type Loaded = (Policy, Vec<Warning>);

/// Loads the policy and runs its own tests.
///
/// # Errors
/// Every mistake, with file, line and column; or each test that fails.
pub(crate) fn load(path: &Path, generation: u64) -> anyhow::Result<(Policy, Vec<Warning>)> {
    let (policy, warnings) =
        Policy::load(path, generation).map_err(|errors| anyhow!("{errors}"))?;
    let analyse = |service: &Service, text: &str| {
        let context = analyse::Context {
            search_path: service.search_path.as_deref().unwrap_or_default(),
        };
        let operation = analyse::analyse(text, &context);
        match operation.problem {
            Some(problem) => Err(problem.into_string()),
            None => Ok(operation.effects),
        }
    };
    let failures = policy.run_tests(&analyse);
    if failures.is_empty() {
        return Ok((policy, warnings));
    }
    let failures: Vec<String> = failures.iter().map(ToString::to_string).collect();
    Err(anyhow!("{}", failures.join("\n")))
}

impl Policies {
    /// Takes the first policy, as [`load`] gave it.
    pub(super) fn start(
        path: &Path,
        (policy, warnings): Loaded,
        vault: Arc<Vault>,
        issuers: BTreeSet<String>,
        audit: Arc<AuditLog>,
    ) -> anyhow::Result<Self> {
        let policies = Self {
            path: path.to_owned(),
            current: Arc::new(ArcSwap::from_pointee(policy)),
            generations: AtomicU64::new(1),
            problem: Mutex::default(),
            audit,
            vault,
            issuers,
            changed: watch::Sender::new(1),
        };
        policies.taken(1, &warnings)?;
        Ok(policies)
    }

    /// The policy in force, for whoever judges.
    pub(super) fn current(&self) -> Arc<ArcSwap<Policy>> {
        Arc::clone(&self.current)
    }

    /// Its generation.
    pub(super) fn generation(&self) -> u64 {
        self.current.load().generation()
    }

    /// Where it is read from.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Why the newest policy was not taken; empty when it was.
    pub(super) fn problem(&self) -> String {
        self.problem
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Fires with each new generation.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Reads the policy anew; a bad one keeps the last good one and says so.
    pub(super) fn reload(&self) {
        let generation = self.generations.fetch_add(1, Ordering::Relaxed) + 1;
        let result = load(&self.path, generation).and_then(|(policy, warnings)| {
            self.current.store(Arc::new(policy));
            self.taken(generation, &warnings)
        });
        let problem = match result {
            Ok(()) => String::new(),
            Err(error) => self.rejected(generation, &error),
        };
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
        self.changed.send_replace(self.generation());
    }

    fn taken(&self, generation: u64, warnings: &[Warning]) -> anyhow::Result<()> {
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        // Said now, not when the first agent is turned away for it; a credential's file may
        // still be put right without a reload.
        let policy = self.current.load();
        let asked: BTreeSet<&str> = policy.issuers().collect();
        for issuer in asked.iter().filter(|asked| !self.issuers.contains(**asked)) {
            tracing::warn!(
                "a role asks for tokens of `{}`, which identity.issuers of the configuration does \
                 not list: none of them is accepted",
                issuer.escape_debug()
            );
        }
        for service in policy.services() {
            for error in service
                .secrets()
                .filter_map(|it| self.vault.check(it).err())
            {
                tracing::warn!("service {}: {error}", service.name);
            }
        }
        let credentials = policy.services().flat_map(Service::secrets);
        self.vault.retain(policy.generation(), credentials);
        let path = self.path.display().to_string();
        tracing::info!(generation, path, "policy loaded");
        let body = LoadedBody {
            generation,
            path,
            problem: None,
        };
        let context = Context::default();
        Ok(self
            .audit
            .append(&Record::new(Event::PolicyLoaded, &context, &body))?)
    }

    fn rejected(&self, generation: u64, error: &anyhow::Error) -> String {
        let problem = format!("{error:#}");
        let in_force = self.generation();
        tracing::error!("policy not taken, generation {in_force} stays in force:\n{problem}");
        let path = self.path.display().to_string();
        let body = LoadedBody {
            generation,
            path,
            problem: Some(problem.clone()),
        };
        let context = Context::default();
        self.audit
            .append_later(&Record::new(Event::PolicyRejected, &context, &body));
        problem
    }
}
