//! A cancel request: a connection of its own that stops what runs on another one.

use std::io;
use std::sync::Arc;

use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::super::Proxy;
use super::super::cancel::{CancelGuard, Target};
use super::super::upstream::{self, DialError};
use super::drive::{Drive, FAREWELL};
use crate::audit::{Event, Record};
use crate::policy::{Decision, Permit, Service, Tls};
use crate::protocol::CancelKey;
use crate::protocol::postgres::codec::message;

/// Requests for one connection that is cut, at most.
const MOST_CANCELS: usize = 64;

impl Drive {
    pub(super) async fn cancel(&mut self, key: &CancelKey) {
        let admitted = &self.admitted;
        let (session, service) = (admitted.session.current(), &admitted.service);
        let found = self.proxy.cancels.find(key, &session.id, &service.name);
        let Some(target) = found else {
            let reason = "a cancel key that this session does not hold";
            return self.end(reason, Some("agent"));
        };
        let policy = self.proxy.policy.load_full();
        let permit = match policy.admit(&session.principal, &service.name) {
            Decision::Allow(permit) => permit,
            Decision::Deny(denial) => return self.end(denial.message(), Some("policy")),
        };
        let body = CancelBody {
            cancels: target.connection.to_string(),
        };
        let record = Record::new(Event::CancelRequest, &self.context, &body);
        if let Err(error) = self.proxy.audit.append(&record) {
            let reason = format!("cancel request refused: {error}");
            return self.proxy.refusals.say(&reason);
        }
        // A lost request is the agent's to repeat.
        if let Err(error) = pass(&self.proxy, service, &permit, &target).await {
            let reason = format!("service {}: a cancel request: {error}", target.service);
            self.proxy.refusals.say(&reason);
        }
    }
}

impl Drive {
    /// Stops what runs on the server for this connection, and what waits there behind it,
    /// `statements` in all; nobody waits for it. A request stops one that runs and says
    /// nothing of the next, so they are sent one after the other.
    pub(super) fn stop_running(&self, statements: usize) {
        let target = self.cancel.as_ref().and_then(CancelGuard::target);
        let (Some(target), Some(permit)) = (target, self.permit.clone()) else {
            return;
        };
        let (proxy, service) = (Arc::clone(&self.proxy), self.admitted.service.clone());
        tokio::spawn(async move {
            for _ in 0..statements.clamp(1, MOST_CANCELS) {
                if let Err(error) = pass(&proxy, &service, &permit, &target).await {
                    let service = &target.service;
                    let text = format!("service {service}: what ran can't be stopped: {error}");
                    return proxy.report(&text);
                }
            }
        });
    }
}

/// As privately as the connection that it is about: who reads the key can use it.
async fn pass(
    proxy: &Proxy,
    service: &Service,
    permit: &Permit,
    target: &Target,
) -> Result<(), DialError> {
    let mut stream = upstream::dial(permit, target.upstream).await?;
    let lost = |source| DialError::Connect {
        upstream: target.upstream,
        source,
    };
    if service.tls != Tls::Disable {
        let mut answer = [0];
        let ask = async {
            stream.write_all(&message::SSL_REQUEST).await?;
            stream.read_exact(&mut answer).await
        };
        upstream::patient(ask).await.map_err(lost)?;
        if answer != *b"S" {
            return Err(lost(io::ErrorKind::ConnectionRefused.into()));
        }
        let (vault, host) = (&proxy.vault, &target.host);
        let secured = proxy.tls.secure(vault, permit, service, host, stream);
        stream = secured.await?;
    }
    let request = message::cancel_request(&target.key);
    let sent = async {
        stream.write_all(&request).await?;
        stream.flush().await
    };
    upstream::patient(sent).await.map_err(lost)?;
    // The server answers by closing, once it has sent the signal: so do we.
    let _ = timeout(FAREWELL, stream.read_u8()).await;
    let _ = timeout(FAREWELL, stream.shutdown()).await;
    Ok(())
}

#[derive(Serialize)]
struct CancelBody {
    /// The connection whose statement it is about.
    cancels: String,
}
