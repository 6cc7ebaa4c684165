//! Judges operations, and records each decision before anything goes on.

use std::sync::Arc;
use std::time::Instant;

use super::drive::Drive;
use crate::audit::{DecisionBody, Event, OutcomeBody, Record, RuleBody};
use crate::policy::{Decision, Denial, Request, RuleRef};
use crate::protocol::{Outcome, Question, Stage, Verdict};
use crate::types::RequestId;

impl Drive {
    /// Judges, and records before anything goes on.
    pub(super) fn judge(&mut self, question: &Question) -> Verdict {
        let policy = self.proxy.policy.load();
        let admitted = &self.admitted;
        let principal = &admitted.session.current().principal;
        let decision = policy.decide(&Request {
            principal,
            service: &admitted.service.name,
            effects: &question.operation.effects,
        });
        let roles = policy.roles_of(principal);
        let (word, rules, reason) = match &decision {
            Decision::Allow(permit) => ("allow", rules(permit.rules()), None),
            Decision::Deny(denial) => ("deny", denying(denial), Some(denial.message().to_owned())),
        };
        let body = DecisionBody {
            request: RequestId {
                connection: admitted.id,
                number: question.number,
            },
            stage: question.stage.name(),
            decision: word,
            rules,
            reason,
            generation: policy.generation(),
            effects: &question.operation.effects,
            problem: question.operation.problem.as_deref(),
            fingerprint: &question.operation.fingerprint,
            statement: &question.operation.text,
            roles: &roles,
        };
        let mut record = Record::new(Event::Decision, &self.context, &body);
        if self.proxy.audit.has_journal() {
            let rules: Vec<&str> = body.rules.iter().map(|rule| rule.id).collect();
            record = record
                .with_field("PORTCULLIS_DECISION", word)
                .with_field("PORTCULLIS_RULE", rules.join(","))
                .with_field("PORTCULLIS_REQUEST", body.request.to_string());
        }
        if let Err(error) = self.proxy.audit.append(&record) {
            self.proxy
                .refusals
                .say(&format!("operations refused: {error}"));
            return Verdict::NotRecorded;
        }
        self.proxy.metrics.decided(&admitted.service.name, word);
        // What is only prepared does not run yet.
        if decision.is_allow() && question.stage != Stage::Prepare {
            self.running.insert(question.number, Instant::now());
        }
        Verdict::Decided(Arc::new(decision))
    }

    pub(super) fn record_outcome(&mut self, outcome: &Outcome) {
        // Denied operations have no outcome: they did not run.
        let Some(since) = self.running.remove(&outcome.number) else {
            return;
        };
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
