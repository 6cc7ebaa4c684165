//! Opens the way to the upstream: admit, record, dial, secure, present the credential.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;

use super::super::{upstream, upstream_tls};
use super::drive::Drive;
use crate::audit::{Event, Record};
use crate::policy::{Decision, Effect, Request};
use crate::protocol::{Answer, Opening, Refusal};
use crate::vault::{Handed, VaultError};

impl Drive {
    pub(super) async fn dial(&mut self, opening: &Opening) -> Answer {
        self.context = self.admitted.context(&opening.database, &opening.user);
        self.login.clone_from(&opening.login);
        let policy = self.proxy.policy.load_full();
        let admitted = &self.admitted;
        let session = admitted.session.current();
        let permit = match policy.admit(&session.principal, &admitted.service.name) {
            Decision::Allow(permit) => permit,
            Decision::Deny(denial) => {
                self.proxy.metrics.refused("no role may use the service");
                self.end(denial.message(), Some("policy"));
                return Answer::Refused(Refusal::NotAdmitted(denial));
            }
        };
        self.generation = permit.generation();
        // The settings of its start-up, as if it had said SET.
        let settings = policy.decide(&Request {
            principal: &session.principal,
            service: &admitted.service.name,
            effects: &opening.effects,
        });
        if let Decision::Deny(denial) = settings {
            self.end(denial.message(), Some("policy"));
            return Answer::Refused(Refusal::NotAdmitted(denial));
        }
        let opened = OpenBody {
            application: &opening.application,
            settings: opening.effects.iter().map(Effect::to_string).collect(),
            tls: self.agent_tls.unwrap_or("off"),
        };
        let record = Record::new(Event::ConnectionOpen, &self.context, &opened);
        if let Err(error) = self.proxy.audit.append(&record) {
            self.proxy
                .refusals
                .say(&format!("connection refused: {error}"));
            self.end("the audit record can't be written", Some("gate"));
            return Answer::Refused(Refusal::NotRecorded);
        }
        self.opened = true;
        match upstream::dial(&permit, self.admitted.upstream()).await {
            Ok(stream) => {
                self.upstream = Some(stream);
                self.permit = Some(permit);
                Answer::Dialled
            }
            Err(error) => self.unreachable(&error, Refusal::Unreachable),
        }
    }

    pub(super) async fn secure(&mut self) -> Answer {
        let (Some(stream), Some(permit)) = (self.upstream.take(), &self.permit) else {
            return Answer::Refused(Refusal::Misconfigured);
        };
        let (proxy, admitted) = (&self.proxy, &self.admitted);
        let (service, host) = (&admitted.service, &admitted.target.host);
        let secured = proxy
            .tls
            .secure(&proxy.vault, permit, service, host, stream);
        match secured.await {
            Ok(stream) => {
                let binding = upstream_tls::binding(&stream);
                self.upstream = Some(stream);
                binding.map_or(Answer::Refused(Refusal::Misconfigured), Answer::Secured)
            }
            Err(error) if error.is_ours() => self.unreachable(&error, Refusal::Misconfigured),
            Err(error) => self.unreachable(&error, Refusal::UpstreamBroken),
        }
    }

    fn unreachable(&mut self, error: &upstream::DialError, refusal: Refusal) -> Answer {
        let service = &self.admitted.service.name;
        self.proxy
            .refusals
            .say(&format!("service {service}: {error}"));
        let blame = if matches!(refusal, Refusal::Misconfigured) {
            "gate"
        } else {
            "upstream"
        };
        self.end(error.to_string(), Some(blame));
        Answer::Refused(refusal)
    }

    pub(super) fn ask_for_credential(&mut self) {
        let from = self.admitted.service.credential_of(&self.login);
        let (Some(permit), Some(from)) = (self.permit.clone(), from.cloned()) else {
            let refused = Answer::Refused(Refusal::Misconfigured);
            return self.session.answer(refused, &mut self.io);
        };
        let vault = Arc::clone(&self.proxy.vault);
        let answer = async move { vault.credential(&permit, &from).await };
        self.asked = Some(Box::pin(answer));
    }

    pub(super) fn credential(&mut self, handed: Result<Handed, Arc<VaultError>>) -> Answer {
        self.asked = None;
        match handed {
            Ok(handed) => {
                self.stamp = Some(handed.stamp);
                Answer::Credential(handed.credential)
            }
            Err(error) => {
                let service = &self.admitted.service.name;
                self.proxy
                    .refusals
                    .say(&format!("service {service}: {error}"));
                self.end(error.to_string(), Some("gate"));
                Answer::Refused(Refusal::Misconfigured)
            }
        }
    }
}

/// The vault's answer to come.
pub(super) type Asked = Pin<Box<dyn Future<Output = Result<Handed, Arc<VaultError>>> + Send>>;

/// Never, while nothing is asked for.
pub(super) async fn answered(asked: &mut Option<Asked>) -> Result<Handed, Arc<VaultError>> {
    match asked {
        Some(asked) => asked.await,
        None => pending().await,
    }
}

#[derive(Serialize)]
struct OpenBody<'a> {
    application: &'a str,
    /// What its settings do that are not harmless.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    settings: Vec<String>,
    /// The agent's own side of it: `off`, `TLSv1.2` or `TLSv1.3`.
    tls: &'static str,
}
