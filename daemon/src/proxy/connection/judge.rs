//! Judges operations, and records each decision before anything goes on.

use std::sync::Arc;
use std::time::Instant;

use super::super::{Proxy, batch};
use super::drive::Drive;
use super::memo::{Known, word};
use crate::audit::{
    AuditError, Context, DecisionBody, DecisionText, Event, Judged, OutcomeBody, Record, RuleBody,
};
use crate::policy::{Decision, Denial, Policy, Request, RuleRef};
use crate::protocol::{Outcome, Question, Stage, Verdict};
use crate::types::{Principal, RequestId};

impl Drive {
    /// Judges, and records before anything goes on.
    pub(super) async fn judge(&mut self, question: &Question) -> Verdict {
        let answer = match self.answer(question) {
            Ok(answer) => answer,
            Err(error) => return self.not_recorded(&error),
        };
        let judged = Judged {
            request: RequestId {
                connection: self.admitted.id,
                number: question.number,
            },
            text: &answer.text,
        };
        if let Err(error) = record(&self.proxy, &self.context, &answer, &judged).await {
            return self.not_recorded(&error);
        }
        answer.count.add();
        // What is only prepared does not run yet.
        if answer.decision.is_allow() && question.stage != Stage::Prepare {
            self.running.insert(question.number, Instant::now());
            self.busy.is_now(true);
        }
        Verdict::Decided(Arc::clone(&answer.decision))
    }

    fn answer(&mut self, question: &Question) -> Result<Arc<Known>, AuditError> {
        let policy = self.proxy.policy.load();
        let session = self.admitted.session.look();
        if let Some(known) = self.memo.find(&policy, &session, question) {
            return Ok(known);
        }
        let answer = self.decide(&policy, &session.principal, question)?;
        self.memo
            .keep(&policy, &session, question, Arc::clone(&answer));
        Ok(answer)
    }

    fn not_recorded(&self, error: &AuditError) -> Verdict {
        let reason = format!("operations refused: {error}");
        self.proxy.refusals.say(&reason);
        Verdict::NotRecorded
    }

    fn decide(
        &self,
        policy: &Policy,
        principal: &Principal,
        question: &Question,
    ) -> Result<Arc<Known>, AuditError> {
        let service = &self.admitted.service.name;
        let operation = &question.operation;
        let decision = policy.decide(&Request {
            principal,
            service,
            effects: &operation.effects,
        });
        let (rules, reason) = match &decision {
            Decision::Allow(permit) => (rules(permit.rules()), None),
            Decision::Deny(denial) => (denying(denial), Some(denial.message().to_owned())),
        };
        let text = DecisionText::new(&DecisionBody {
            stage: question.stage.name(),
            decision: word(&decision),
            rules,
            reason,
            generation: policy.generation(),
            effects: &operation.effects,
            problem: operation.problem.as_deref(),
            fingerprint: &operation.fingerprint,
            statement: &operation.text,
            roles: &policy.roles_of(principal),
        })?;
        Ok(Arc::new(Known {
            text,
            count: self.proxy.metrics.decisions(service, word(&decision)),
            decision: Arc::new(decision),
        }))
    }

    pub(super) fn record_outcome(&mut self, outcome: &Outcome) {
        // Denied operations have no outcome: they did not run.
        let Some(since) = self.running.remove(&outcome.number) else {
            return;
        };
        self.busy.is_now(!self.running.is_empty());
        let body = OutcomeBody {
            request: RequestId {
                connection: self.admitted.id,
                number: outcome.number,
            },
            rows: outcome.rows,
            bytes: outcome.bytes,
            duration_us: u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX),
            sqlstate: outcome.sqlstate.as_deref(),
            skipped: outcome.skipped,
        };
        self.proxy
            .audit
            .append_later(&Record::new(Event::Outcome, &self.context, &body));
    }
}

async fn record(
    proxy: &Proxy,
    context: &Context,
    answer: &Known,
    judged: &Judged<'_>,
) -> Result<(), Arc<AuditError>> {
    let audit = &proxy.audit;
    let mut record = Record::judged(context, judged);
    if audit.has_journal() {
        record = record
            .with_field("PORTCULLIS_DECISION", answer.word())
            .with_field("PORTCULLIS_RULE", answer.rule_ids())
            .with_field("PORTCULLIS_REQUEST", judged.request.to_string());
    }
    // With others at work, there are likely to be more that wait for the same.
    if proxy.busy() > 1 {
        return batch::recorded(audit, &record).await;
    }
    Ok(audit.append(&record)?)
}

fn rules<'a>(rules: &'a [RuleRef]) -> Vec<RuleBody<'a>> {
    let body = |rule: &'a RuleRef| {
        let RuleRef { id, file, line } = rule;
        RuleBody {
            id,
            file,
            line: *line,
        }
    };
    rules.iter().map(body).collect()
}

fn denying(denial: &Denial) -> Vec<RuleBody<'_>> {
    denial
        .rule
        .as_ref()
        .map(std::slice::from_ref)
        .map(rules)
        .unwrap_or_default()
}
