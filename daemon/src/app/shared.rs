//! What most of the daemon's parts are made from, and how they are made from it.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::namespaces::{self, Namespaces};
use super::policies::Policies;
use super::sessions::{self, Sessions};
use super::tasks::Reach;
use crate::audit::AuditLog;
use crate::authority::Authority;
use crate::capture::{Gate, MissingLayer};
use crate::config::Config;
use crate::dns::{self, Resolver};
use crate::identity::Registry;
use crate::identity::token::Verifier;
use crate::metrics::Metrics;
use crate::proxy::{Destinations, Limits, Parts, Proxy, Workers};
use crate::vault::Vault;

/// There before the first connection is, and until the last has ended.
pub(super) struct Shared {
    pub(super) audit: Arc<AuditLog>,
    pub(super) authority: Arc<Authority>,
    pub(super) gate: Arc<Gate>,
    pub(super) policies: Arc<Policies>,
    pub(super) registry: Arc<Registry>,
    pub(super) vault: Arc<Vault>,
}

impl Shared {
    /// What serves connections, and what tells it and the kernel where services are: it
    /// has no destinations yet.
    pub(super) fn proxy(&self, limits: Limits, workers: Workers) -> (Arc<Proxy>, Reach) {
        let destinations = Arc::new(ArcSwap::from_pointee(Destinations::default()));
        let metrics = Arc::new(Metrics::default());
        let resolver = Arc::new(Resolver::new(dns::Parts {
            policy: self.policies.current(),
            sessions: Arc::clone(&self.registry),
            audit: Arc::clone(&self.audit),
            askers: Arc::clone(&self.gate) as _,
            metrics: Arc::clone(&metrics),
        }));
        let proxy = Proxy::new(Parts {
            policy: self.policies.current(),
            policy_changes: self.policies.changes(),
            destinations: Arc::clone(&destinations),
            sessions: Arc::clone(&self.registry),
            audit: Arc::clone(&self.audit),
            origins: Arc::clone(&self.gate) as _,
            resolver: Arc::clone(&resolver),
            metrics,
            vault: Arc::clone(&self.vault),
            authority: Arc::clone(&self.authority),
            limits,
            workers,
        });
        let reach = Reach {
            gate: Arc::clone(&self.gate),
            destinations,
            resolver,
            policies: Arc::clone(&self.policies),
        };
        (Arc::new(proxy), reach)
    }

    /// The gate in the network namespaces of agents, of those that live on too.
    pub(super) fn namespaces(
        &self,
        proxy: &Arc<Proxy>,
        port: u16,
    ) -> anyhow::Result<Arc<Namespaces>> {
        let namespaces = Arc::new(Namespaces::new(namespaces::Parts {
            gate: Arc::clone(&self.gate),
            registry: Arc::clone(&self.registry),
            proxy: Arc::clone(proxy),
            port,
        })?);
        namespaces.scan();
        Ok(namespaces)
    }

    /// Those that were adopted are bound by the policy of now, which may be another, before
    /// anybody asks for a new one.
    pub(super) fn sessions(
        &self,
        proxy: &Arc<Proxy>,
        namespaces: &Arc<Namespaces>,
        tokens: Verifier,
        missing: Vec<MissingLayer>,
        config: &Config,
    ) -> anyhow::Result<Arc<Sessions>> {
        let parts = sessions::Parts {
            gate: Arc::clone(&self.gate),
            registry: Arc::clone(&self.registry),
            namespaces: Arc::clone(namespaces),
            proxy: Arc::clone(proxy),
            policies: Arc::clone(&self.policies),
            tokens,
            missing,
        };
        let sessions = Sessions::new(parts, config)?;
        sessions.allow_unix_sockets();
        sessions.bind_anew();
        sessions.hide_files()?;
        Ok(Arc::new(sessions))
    }
}
