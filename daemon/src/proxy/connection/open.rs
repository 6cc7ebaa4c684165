//! Opens the way to the upstream: admit, record, dial, secure, present the credential.

use serde::Serialize;

use super::super::upstream;
use super::drive::Drive;
use crate::audit::{Event, Record};
use crate::policy::{Decision, Tls};
use crate::protocol::{Answer, Opening, Refusal};

impl Drive {
    pub(super) async fn dial(&mut self, opening: &Opening) -> Answer {
        self.context = self.admitted.context(&opening.database, &opening.user);
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
        let opened = OpenBody {
            application: &opening.application,
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
        let (Some(stream), Tls::VerifyFull { ca }) =
            (self.upstream.take(), &self.admitted.service.tls)
        else {
            return Answer::Refused(Refusal::Misconfigured);
        };
        match self
            .proxy
            .tls
            .secure(stream, &self.admitted.target.host, ca.as_deref())
            .await
        {
            Ok(stream) => {
                self.upstream = Some(stream);
                Answer::Secured
            }
            Err(error @ upstream::DialError::Authorities(_)) => {
                self.unreachable(&error, Refusal::Misconfigured)
            }
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

    pub(super) async fn credential(&mut self) -> Answer {
        let Some(permit) = &self.permit else {
            return Answer::Refused(Refusal::Misconfigured);
        };
        let from = &self.admitted.service.credential;
        match self.proxy.vault.credential(permit, from).await {
            Ok(credential) => Answer::Credential(credential),
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

#[derive(Serialize)]
struct OpenBody<'a> {
    application: &'a str,
}
