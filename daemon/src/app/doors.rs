//! Where others than connections come to the daemon: the control socket, the agents' socket
//! with the authority's certificate beside it, and the port for metrics.
//!
//! Opened before the daemon is ready, served from then on.

use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};

use super::sessions::Sessions;
use crate::authority::Authority;
use crate::config::Config;
use crate::control::{agent_certificate, agent_socket, inside, server};

/// All of them, open.
pub(super) struct Doors {
    control: UnixListener,
    agents: UnixListener,
    metrics: Option<TcpListener>,
}

impl Doors {
    /// Opens them.
    ///
    /// # Errors
    /// One of them can't be opened, or the certificate not be written.
    pub(super) fn open(config: &Config, authority: &Authority) -> anyhow::Result<Self> {
        let control = config.socket();
        let doors = Self {
            control: server::bind(&control, config.control.group.as_deref())?,
            agents: inside::bind(&agent_socket(&control))?,
            metrics: server::bind_metrics(config.metrics.listen)?,
        };
        authority.publish(&agent_certificate(&control))?;
        Ok(doors)
    }

    /// Answers there for as long as the daemon runs.
    pub(super) fn serve(self, sessions: &Arc<Sessions>) {
        tokio::spawn(server::serve(self.control, Arc::clone(sessions) as _));
        tokio::spawn(inside::serve(self.agents, Arc::clone(sessions) as _));
        if let Some(metrics) = self.metrics {
            tokio::spawn(server::serve_metrics(metrics, Arc::clone(sessions) as _));
        }
    }
}
