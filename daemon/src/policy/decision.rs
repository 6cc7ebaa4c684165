//! The answer, and the proof of it.

use std::fmt;
use std::sync::Arc;

use super::Effect;

/// A rule by its id and where it stands, for messages and records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleRef {
    /// The rule's `id:`.
    pub id: Arc<str>,
    /// The policy file.
    pub file: Arc<str>,
    /// The line of the rule in it, from 1.
    pub line: u32,
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.id, self.file, self.line)
    }
}

/// Proof that the policy allowed an operation. Only [`Policy::decide`](super::Policy::decide) and
/// [`Policy::admit`](super::Policy::admit) make one; dialling the upstream, taking a secret and
/// forwarding an operation each need one.
#[derive(Debug, Clone)]
pub struct Permit {
    rules: Arc<[RuleRef]>,
    generation: u64,
}

impl Permit {
    pub(super) fn new(rules: Arc<[RuleRef]>, generation: u64) -> Self {
        Self { rules, generation }
    }

    /// The rules that together allowed it.
    pub fn rules(&self) -> &[RuleRef] {
        &self.rules
    }

    /// The policy generation that it was judged by.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// Why an operation was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenyReason {
    /// A deny rule matched.
    DeniedByRule,
    /// No rule covers the effect.
    NotAllowed,
    /// The principal has no role in the policy.
    NoRole,
    /// The principal's roles have no allow rule on the service at all.
    NoRuleOnService,
}

/// A refusal: which effect, why, by which rule.
#[derive(Debug, Clone)]
pub struct Denial {
    /// Why.
    pub reason: DenyReason,
    /// The first effect that a deny rule matches, or else the first that no rule allows;
    /// none when the connection itself was refused.
    pub effect: Option<Effect>,
    /// The deny rule, where one decided.
    pub rule: Option<RuleRef>,
    /// The policy generation that it was judged by.
    pub generation: u64,
    pub(super) message: Box<str>,
    pub(super) hint: Option<Box<str>>,
}

impl Denial {
    /// What was refused and why, in one line for the agent and the record.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the agent may do instead, where the policy has something to offer.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// The policy's answer.
#[derive(Debug, Clone)]
pub enum Decision {
    /// May go on; the permit proves it.
    Allow(Permit),
    /// Must not.
    Deny(Denial),
}

impl Decision {
    /// Whether it is an allow.
    pub fn is_allow(&self) -> bool {
        matches!(self, Self::Allow(_))
    }
}
