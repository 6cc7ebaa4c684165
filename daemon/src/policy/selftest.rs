//! The tests that a policy brings along.
//!
//! They are judged by the same function as an agent's statements; only the analyser, which
//! this module must not know, is handed in. A policy with a failing test is not used.

use super::file::Expect;
use super::index::RoleIndex;
use super::matcher::{Policy, Subject};
use super::{Decision, Effect, Problem, Service};
use crate::types::ServiceName;

/// Turns a statement into effects, or says why it can't.
pub type Analyse<'a> = dyn Fn(&Service, &str) -> Result<Vec<Effect>, String> + 'a;

/// A test with its names looked up.
#[derive(Debug)]
pub(super) struct TestCase {
    pub(super) who: Box<str>,
    pub(super) roles: Vec<RoleIndex>,
    pub(super) service: ServiceName,
    pub(super) sql: Box<str>,
    pub(super) expect: Expect,
    /// Says where the test stands; its message is filled in when it fails.
    pub(super) place: Problem,
}

impl Policy {
    /// How many tests the policy's files have.
    pub fn test_count(&self) -> usize {
        self.tests.len()
    }

    /// Runs the policy's own tests; each problem is a test that failed, in the files' order.
    /// A statement that the analyser can't read counts as denied.
    pub fn run_tests(&self, analyse: &Analyse<'_>) -> Vec<Problem> {
        self.tests
            .iter()
            .filter_map(|test| self.failure(test, analyse))
            .collect()
    }

    fn failure(&self, test: &TestCase, analyse: &Analyse<'_>) -> Option<Problem> {
        let subject = Subject {
            principal: &test.who,
            roles: &test.roles,
            service: &test.service,
        };
        let service = self.service(&test.service)?;
        let (got, why) = match analyse(service, &test.sql) {
            Err(reason) => (
                Expect::Deny,
                format!("the statement can't be read: {reason}"),
            ),
            Ok(effects) => match self.judge(&subject, &effects) {
                Decision::Allow(permit) => {
                    let rules: Vec<_> = permit.rules().iter().map(ToString::to_string).collect();
                    (Expect::Allow, format!("allowed by {}", rules.join(", ")))
                }
                Decision::Deny(denial) => (Expect::Deny, denial.message().to_owned()),
            },
        };
        if got == test.expect {
            return None;
        }
        let (expected, was) = match test.expect {
            Expect::Allow => ("allow", "denied"),
            Expect::Deny => ("deny", "allowed"),
        };
        let message = format!("a test of the policy fails: it expects {expected} and is {was}");
        Some(test.place.clone().with(message, why))
    }
}

#[cfg(test)]
#[path = "selftest_tests.rs"]
mod tests;
