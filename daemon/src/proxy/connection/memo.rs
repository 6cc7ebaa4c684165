//! What was decided of the operations that this connection asks for again and again.
//!
//! A decision follows from the policy, the session and what the operation does; while all
//! three are the very same, so is the decision, and what its record says. Invariant: nothing
//! is found for another policy generation or after a change of the session. Bounded in
//! entries and bytes; each use is still recorded.

use std::sync::Arc;

use crate::audit::DecisionText;
use crate::identity::AgentSession;
use crate::metrics::Decisions;
use crate::policy::{Decision, Policy};
use crate::protocol::{Operation, Question, Stage};

/// Decisions that are kept.
const ENTRIES: usize = 8;
/// The longest record that is kept, in bytes.
const LONGEST: usize = 1024;

/// A decision and what its records say.
pub(super) struct Known {
    pub(super) decision: Arc<Decision>,
    pub(super) text: DecisionText,
    pub(super) count: Decisions,
}

struct Entry {
    /// Held, so that its address stays its own.
    operation: Arc<Operation>,
    stage: Stage,
    known: Arc<Known>,
}

/// The decisions of one connection.
#[derive(Default)]
pub(super) struct Memo {
    /// What they follow from.
    generation: u64,
    session: Option<Arc<AgentSession>>,
    entries: Vec<Entry>,
    /// The next one that has to make room.
    oldest: usize,
}

impl Memo {
    /// The decision on the same operation.
    pub(super) fn find(
        &self,
        policy: &Policy,
        session: &Arc<AgentSession>,
        question: &Question,
    ) -> Option<Arc<Known>> {
        if !self.is_of(policy, session) {
            return None;
        }
        let mut entries = self.entries.iter();
        let same = |entry: &&Entry| {
            Arc::ptr_eq(&entry.operation, &question.operation) && entry.stage == question.stage
        };
        entries.find(same).map(|entry| Arc::clone(&entry.known))
    }

    /// Keeps a decision, if it is worth it.
    pub(super) fn keep(
        &mut self,
        policy: &Policy,
        session: &Arc<AgentSession>,
        question: &Question,
        known: Arc<Known>,
    ) {
        if !self.is_of(policy, session) {
            *self = Self {
                generation: policy.generation(),
                session: Some(Arc::clone(session)),
                ..Self::default()
            };
        }
        // A text is prepared once.
        let again = question.stage != Stage::Prepare;
        if !again || known.text.size() > LONGEST || self.find(policy, session, question).is_some() {
            return;
        }
        let entry = Entry {
            operation: Arc::clone(&question.operation),
            stage: question.stage,
            known,
        };
        match self.entries.get_mut(self.oldest) {
            Some(place) => *place = entry,
            None => self.entries.push(entry),
        }
        self.oldest = (self.oldest + 1) % ENTRIES;
    }

    fn is_of(&self, policy: &Policy, session: &Arc<AgentSession>) -> bool {
        let same = |known: &Arc<AgentSession>| Arc::ptr_eq(known, session);
        self.generation == policy.generation() && self.session.as_ref().is_some_and(same)
    }
}

/// The word of a decision in records.
pub(super) fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Allow(_) => "allow",
        Decision::Deny(_) => "deny",
    }
}

impl Known {
    pub(super) fn word(&self) -> &'static str {
        word(&self.decision)
    }

    /// The rules that decided, for the journal.
    pub(super) fn rule_ids(&self) -> String {
        let rules = match &*self.decision {
            Decision::Allow(permit) => permit.rules(),
            Decision::Deny(denial) => denial.rule.as_slice(),
        };
        let ids: Vec<&str> = rules.iter().map(|rule| &*rule.id).collect();
        ids.join(",")
    }
}

#[cfg(test)]
#[path = "memo_tests.rs"]
mod tests;
