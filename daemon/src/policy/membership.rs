//! Which roles a principal has, by the way in which it is known.
//!
//! Asked for each decision: a look-up by name for somebody's word or a cgroup, a walk over
//! one issuer's roles for a token. Invariant: what narrows a session only takes roles away.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::cgroup::{CgroupPattern, Specificity};
use super::file::{RoleSpec, TokenWhen, When};
use super::index::RoleIndex;
use super::problem::{At, Diagnostics};
use crate::types::{Principal, Proof, RoleName, TokenFacts};

/// Who has which roles.
#[derive(Debug, Default)]
pub(super) struct Membership {
    /// By the name that is given with `--as`; ascending.
    words: HashMap<Arc<str>, Vec<RoleIndex>>,
    /// By the pattern as it is written; ascending.
    cgroups: HashMap<Arc<str>, Vec<RoleIndex>>,
    /// The most specific first.
    patterns: Vec<CgroupPattern>,
    /// By issuer; ascending by role.
    tokens: HashMap<Box<str>, Vec<(RoleIndex, TokenWhen)>>,
}

/// The binding of a cgroup's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The pattern that won, as it is written.
    pub pattern: Arc<str>,
    /// The roles that list it, by name.
    pub roles: Vec<RoleName>,
}

impl Membership {
    /// `index` finds a role's number by its name.
    pub(super) fn compile(
        found: &mut Diagnostics,
        specs: &[RoleSpec],
        index: impl Fn(&str) -> Option<RoleIndex>,
    ) -> Self {
        let mut all = Self::default();
        let mut patterns: Vec<&At<CgroupPattern>> = Vec::new();
        for spec in specs {
            let Some(role) = index(&spec.name.value) else {
                continue;
            };
            let Some(ways) = &spec.when else {
                add(&mut all.words, spec.name.value.as_str().into(), role);
                continue;
            };
            for way in ways {
                match way {
                    When::As(names) => names
                        .iter()
                        .for_each(|name| add(&mut all.words, name.value.as_str().into(), role)),
                    When::Cgroup(list) => {
                        for pattern in list {
                            add(&mut all.cgroups, Arc::clone(pattern.value.text()), role);
                            patterns.push(pattern);
                        }
                    }
                    When::Token(when) => all.add_token(role, when),
                }
            }
        }
        all.refuse_ties(found, &patterns);
        all.patterns = patterns.iter().map(|at| at.value.clone()).collect();
        all.patterns
            .sort_by(|a, b| rank(b).cmp(&rank(a)).then_with(|| a.text().cmp(b.text())));
        all.patterns.dedup();
        all
    }

    fn add_token(&mut self, role: RoleIndex, when: &TokenWhen) {
        for issuer in &when.issuers {
            let list = self.tokens.entry(issuer.as_str().into()).or_default();
            let at = list.partition_point(|(other, _)| *other <= role);
            list.insert(at, (role, when.clone()));
        }
    }

    /// Two patterns that are equally specific, that a path may match both of, and that lead
    /// to different roles: nobody could say which counts.
    fn refuse_ties(&self, found: &mut Diagnostics, patterns: &[&At<CgroupPattern>]) {
        let roles = |pattern: &CgroupPattern| self.cgroups.get(pattern.text());
        for (nth, later) in patterns.iter().enumerate() {
            let tie = patterns.iter().take(nth).find(|earlier| {
                later.value.text() != earlier.value.text()
                    && rank(&later.value) == rank(&earlier.value)
                    && roles(&later.value) != roles(&earlier.value)
                    && later.value.overlaps(&earlier.value)
            });
            let Some(earlier) = tie else { continue };
            let message = format!(
                "`{}` and `{}` match the same cgroups and neither is more specific",
                later.value.text().escape_debug(),
                earlier.value.text().escape_debug(),
            );
            let place = found.place(earlier.spot);
            let help = format!("the other is at {place}: write more of one of them out");
            found.error(later.spot, message, Some(help));
        }
    }

    /// The names that `--as` may give.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        self.words.keys().map(|name| &**name)
    }

    /// The roles of such a name.
    pub(super) fn of_word(&self, name: &str) -> Option<&[RoleIndex]> {
        self.words.get(name).map(Vec::as_slice)
    }

    /// The principal's roles, ascending; `names` are all roles, ascending.
    pub(super) fn of<'a>(
        &'a self,
        principal: &Principal,
        names: &[RoleName],
    ) -> Cow<'a, [RoleIndex]> {
        let all = match &principal.proof {
            Proof::Word => Cow::Borrowed(self.of_word(&principal.name).unwrap_or(&[])),
            Proof::Cgroup(pattern) => {
                Cow::Borrowed(self.cgroups.get(pattern).map_or(&[][..], Vec::as_slice))
            }
            Proof::Token(facts) => {
                let mut roles: Vec<_> = self.matched(facts).map(|(role, _)| *role).collect();
                roles.dedup();
                Cow::Owned(roles)
            }
        };
        match &principal.only {
            Some(only) => all
                .iter()
                .copied()
                .filter(|role| {
                    let name = names.get(*role as usize);
                    name.is_some_and(|name| only.contains(name))
                })
                .collect(),
            None => all,
        }
    }

    fn matched(&self, facts: &TokenFacts) -> impl Iterator<Item = &(RoleIndex, TokenWhen)> {
        let list = self.tokens.get(facts.issuer.as_str());
        let list = list.map_or(&[][..], Vec::as_slice);
        list.iter().filter(|(_, when)| when.admits(facts))
    }

    /// When the first of the `roles` that the token brings ends, in seconds since 1970.
    /// Where several ways lead to one role, the longest counts.
    pub(super) fn end(&self, facts: &TokenFacts, roles: &[RoleIndex]) -> i64 {
        let mut ends: HashMap<RoleIndex, i64> = HashMap::new();
        let ways = self.matched(facts);
        for (role, when) in ways.filter(|(role, _)| roles.contains(role)) {
            let age = when.max_age.unwrap_or(i64::MAX);
            let end = facts.issued.saturating_add(age).min(facts.expires);
            let longest = ends.entry(*role).or_insert(end);
            *longest = end.max(*longest);
        }
        ends.into_values().fold(facts.expires, i64::min)
    }

    /// The most specific pattern that matches the path of a cgroup, and its roles.
    pub(super) fn binding(&self, path: &str, names: &[RoleName]) -> Option<Binding> {
        let pattern = self.patterns.iter().find(|one| one.matches(path))?;
        let roles = self.cgroups.get(pattern.text())?;
        let roles = roles
            .iter()
            .filter_map(|role| names.get(*role as usize).cloned());
        Some(Binding {
            pattern: Arc::clone(pattern.text()),
            roles: roles.collect(),
        })
    }

    /// The issuers that any role asks for.
    pub(super) fn issuers(&self) -> impl Iterator<Item = &str> {
        self.tokens.keys().map(|issuer| &**issuer)
    }
}

fn rank(pattern: &CgroupPattern) -> Specificity {
    pattern.specificity()
}

fn add(map: &mut HashMap<Arc<str>, Vec<RoleIndex>>, key: Arc<str>, role: RoleIndex) {
    let roles = map.entry(key).or_default();
    if let Err(at) = roles.binary_search(&role) {
        roles.insert(at, role);
    }
}

impl TokenWhen {
    /// All that is asked for, and of each list one. The issuer is the index's business.
    fn admits(&self, facts: &TokenFacts) -> bool {
        let any = |wanted: &Option<Vec<String>>, there: &[String]| {
            wanted
                .as_ref()
                .is_none_or(|wanted| wanted.iter().any(|one| there.contains(one)))
        };
        any(&self.audiences, &facts.audience)
            && any(&self.groups, &facts.groups)
            && any(&self.subjects, std::slice::from_ref(&facts.subject))
            && self.claims.iter().all(|(name, wanted)| {
                let there = facts.claims.get(name);
                there.is_some_and(|there| wanted.contains(there))
            })
    }
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;
