//! The compiled policy and its decision.
//!
//! A decision is a pure function of the snapshot and the request: deny beats allow, the
//! default is deny, every effect needs a rule that covers all of its object. What can't
//! be looked up (an unknown service, a malformed path) is covered by nothing.
//! Absent on purpose: locks, clocks, I/O.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::index::{Lookup, RoleIndex, RuleIndex, ServiceIndex};
use super::membership::{Binding, Membership};
use super::refusal::{self, Why};
use super::selftest::TestCase;
use super::{Decision, Effect, Object, Permit, Request, RuleRef, Service, Verb};
use crate::types::{Principal, Proof, RoleName, ServiceName};

/// An immutable snapshot of all policy files.
#[derive(Debug)]
pub struct Policy {
    pub(super) generation: u64,
    /// Sorted by name.
    pub(super) services: Vec<Service>,
    pub(super) indexes: HashMap<ServiceName, ServiceIndex>,
    /// Sorted.
    pub(super) roles: Vec<RoleName>,
    /// Who has which.
    pub(super) membership: Membership,
    /// What roles list under `unix_sockets`.
    pub(super) unix_sockets: HashMap<RoleIndex, Vec<Arc<str>>>,
    /// Sorted by id.
    pub(super) rules: Vec<RuleRef>,
    pub(super) tests: Vec<TestCase>,
}

/// Who is judged, and where.
pub(super) struct Subject<'a> {
    pub(super) principal: &'a str,
    pub(super) roles: &'a [RoleIndex],
    pub(super) service: &'a ServiceName,
}

impl Policy {
    /// The number that [`Policy::load`] was given.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// All services, by name.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.iter()
    }

    /// The service of this name.
    pub fn service(&self, name: &ServiceName) -> Option<&Service> {
        let at = self
            .services
            .binary_search_by(|service| service.name.cmp(name))
            .ok()?;
        self.services.get(at)
    }

    /// All roles, by name.
    pub fn roles(&self) -> &[RoleName] {
        &self.roles
    }

    /// The roles whose `when` admits this principal, by name.
    pub fn roles_of(&self, principal: &Principal) -> Vec<RoleName> {
        self.role_names(&self.role_indexes(principal))
    }

    /// When the principal's session ends at the latest, in seconds since 1970 (UTC): the
    /// token's `exp`, or `iat` and the `max_age` of a role that it brings, whichever comes
    /// first. It may have passed already. None when nothing of it ever ends.
    pub fn lifetime(&self, principal: &Principal) -> Option<i64> {
        match &principal.proof {
            Proof::Token(facts) => {
                let roles = self.role_indexes(principal);
                Some(self.membership.end(facts, &roles))
            }
            Proof::Word | Proof::Cgroup(_) => None,
        }
    }

    /// The binding of a cgroup by its path below the cgroup2 mount, which begins with `/`:
    /// the most specific `when.cgroup` that matches exactly this path. What lies below it
    /// belongs to its session; that is the caller's to see to.
    pub fn binding_for(&self, path: &str) -> Option<Binding> {
        self.membership.binding(path, &self.roles)
    }

    /// The issuers that roles ask for, in no order: who gives out tokens of none of them
    /// gives no role.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        self.membership.issuers()
    }

    /// The unix sockets that any of the principal's roles lists, each once: absolute paths,
    /// and abstract names that begin with `@`.
    pub fn unix_sockets_of(&self, principal: &Principal) -> Vec<Arc<str>> {
        let roles = self.role_indexes(principal);
        let lists = roles.iter().filter_map(|role| self.unix_sockets.get(role));
        let mut all: Vec<Arc<str>> = lists.flatten().cloned().collect();
        all.sort();
        all.dedup();
        all
    }

    /// May the principal connect to the service at all: is there any allow rule for it there?
    pub fn admit(&self, principal: &Principal, service: &ServiceName) -> Decision {
        let roles = self.role_indexes(principal);
        let subject = Subject {
            principal: &principal.name,
            roles: &roles,
            service,
        };
        let rule = self
            .indexes
            .get(service)
            .and_then(|index| index.any_allow(&roles));
        match rule {
            Some(rule) => self.allow(vec![rule]),
            None => self.refuse(&subject, None, self.nothing_here(&subject)),
        }
    }

    /// May the principal do all of this?
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        let roles = self.role_indexes(request.principal);
        let principal = &request.principal.name;
        let subject = Subject {
            principal,
            roles: &roles,
            service: request.service,
        };
        self.judge(&subject, request.effects)
    }

    pub(super) fn judge(&self, subject: &Subject<'_>, effects: &[Effect]) -> Decision {
        let index = self.indexes.get(subject.service);
        let Some((index, any)) =
            index.and_then(|index| Some((index, index.any_allow(subject.roles)?)))
        else {
            return self.refuse(subject, effects.first(), self.nothing_here(subject));
        };
        for effect in effects {
            if let Some(rule) = denied_by(index, subject.roles, effect) {
                return self.refuse(subject, Some(effect), Why::Denied(rule));
            }
        }
        let mut rules = Vec::with_capacity(effects.len().max(1));
        for effect in effects {
            match allowed_by(index, subject.roles, effect, any) {
                Some(rule) if rules.contains(&rule) => {}
                Some(rule) => rules.push(rule),
                None => return self.refuse(subject, Some(effect), Why::NotAllowed),
            }
        }
        if rules.is_empty() {
            rules.push(any);
        }
        self.allow(rules)
    }

    fn allow(&self, mut rules: Vec<RuleIndex>) -> Decision {
        rules.sort_unstable();
        let named = rules
            .into_iter()
            .filter_map(|rule| self.rule(rule).cloned());
        Decision::Allow(Permit::new(named.collect(), self.generation))
    }

    fn refuse(&self, subject: &Subject<'_>, effect: Option<&Effect>, why: Why) -> Decision {
        Decision::Deny(refusal::denial(self, subject, effect, why))
    }

    /// Why a subject with no allow rule on the service has none.
    fn nothing_here(&self, subject: &Subject<'_>) -> Why {
        if subject.roles.is_empty() {
            Why::NoRole
        } else {
            Why::NoRuleOnService
        }
    }

    pub(super) fn rule(&self, rule: RuleIndex) -> Option<&RuleRef> {
        self.rules.get(rule as usize)
    }

    pub(super) fn role_names(&self, roles: &[RoleIndex]) -> Vec<RoleName> {
        roles
            .iter()
            .filter_map(|role| self.roles.get(*role as usize).cloned())
            .collect()
    }

    /// Ascending.
    fn role_indexes(&self, principal: &Principal) -> Cow<'_, [RoleIndex]> {
        self.membership.of(principal, &self.roles)
    }
}

/// Verbs that on the service as a whole read nobody's data: any allow rule there covers them.
fn comes_with_any_allow(verb: Verb) -> bool {
    matches!(verb, Verb::SqlSelect | Verb::SqlSession | Verb::SqlTx)
}

fn denied_by(index: &ServiceIndex, roles: &[RoleIndex], effect: &Effect) -> Option<RuleIndex> {
    let deny = &index.verb(effect.verb)?.deny;
    match &effect.object {
        Object::Service => deny.on_everything(roles),
        Object::Path(path) => match Lookup::new(path) {
            Some(object) => deny.touching(roles, &object),
            None => deny.on_everything(roles),
        },
    }
}

fn allowed_by(
    index: &ServiceIndex,
    roles: &[RoleIndex],
    effect: &Effect,
    any: RuleIndex,
) -> Option<RuleIndex> {
    let allow = &index.verb(effect.verb)?.allow;
    match &effect.object {
        Object::Service if comes_with_any_allow(effect.verb) => {
            allow.on_everything(roles).or(Some(any))
        }
        Object::Service => allow.on_everything(roles),
        Object::Path(path) => allow.covering(roles, &Lookup::new(path)?),
    }
}

#[cfg(test)]
#[path = "matcher_tests.rs"]
mod tests;
