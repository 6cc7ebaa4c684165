//! Several files to one policy: names are tied to what they name, rules are indexed.
//!
//! Files are equal and their order means nothing: rules are numbered by id, roles by name.
//! Invariant: a policy comes out only when nothing at all was wrong.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::file::{FileSpec, RoleSpec, RuleSpec, ServiceSpec, TestSpec};
use super::index::{AllowRule, Audience, RoleIndex, RuleIndex, ServiceIndex};
use super::membership::Membership;
use super::problem::{At, Diagnostics, Spot, suggest};
use super::selftest::TestCase;
use super::{Policy, RuleRef, Service};
use crate::types::{RoleName, ServiceName};

/// Every role's name.
const EVERY_ROLE: &str = "*";

/// Ties the files together. What comes out is of use only when `found` has no error.
pub(super) fn compile(files: Vec<FileSpec>, generation: u64, found: &mut Diagnostics) -> Policy {
    let mut all = FileSpec::default();
    for file in files {
        all.roles.extend(file.roles);
        all.services.extend(file.services);
        all.rules.extend(file.rules);
        all.tests.extend(file.tests);
        all.broken.roles.extend(file.broken.roles);
        all.broken.services.extend(file.broken.services);
    }
    unique(found, "role", all.roles.iter().map(|role| &role.name));
    unique(found, "rule", all.rules.iter().map(|rule| &rule.id));
    check_services(found, &all.services);

    let roles = sorted_roles(&all);
    let membership = Membership::compile(found, &all.roles, |name| role_index(&roles, name));
    let unix_sockets = unix_sockets(&all.roles, &roles);
    let mut services: Vec<Service> = all
        .services
        .iter()
        .map(|service| service.service.clone())
        .collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));

    all.rules.sort_by(|a, b| a.id.value.cmp(&b.id.value));
    let broken = all.broken.services.iter().map(String::as_str);
    let names: Vec<&str> = services
        .iter()
        .map(|service| service.name.as_str())
        .chain(broken)
        .collect();
    let mut indexes: HashMap<ServiceName, ServiceIndex> = HashMap::new();
    let mut used = HashSet::new();
    for (number, rule) in (0..).zip(&all.rules) {
        let Some(audience) = audience(found, rule, &roles) else {
            continue;
        };
        for name in add_rule(found, number, audience, rule, &names, &mut indexes) {
            used.insert(name);
        }
    }
    warn_of_unused(found, &all, &used);
    let rules = all.rules.iter().map(|rule| rule_ref(found, rule)).collect();
    let tests = all
        .tests
        .into_iter()
        .filter_map(|test| tie_test(found, test, &roles, &membership, &names))
        .collect();
    Policy {
        generation,
        services,
        indexes,
        roles,
        membership,
        unix_sockets,
        rules,
        tests,
    }
}

fn rule_ref(found: &Diagnostics, rule: &RuleSpec) -> RuleRef {
    RuleRef {
        id: rule.id.value.as_str().into(),
        file: found.file_name(rule.id.spot),
        line: rule.id.spot.line,
    }
}

fn unique<'a>(found: &mut Diagnostics, kind: &str, names: impl Iterator<Item = &'a At<String>>) {
    let mut first: HashMap<&str, Spot> = HashMap::new();
    for name in names {
        match first.get(name.value.as_str()) {
            Some(earlier) => {
                let help = format!("the first is at {}", found.place(*earlier));
                let message = format!("a second {kind} `{}`", name.value);
                found.error(name.spot, message, Some(help));
            }
            None => {
                first.insert(&name.value, name.spot);
            }
        }
    }
}

/// Names and destinations belong to one service each: a connection must find exactly one.
fn check_services(found: &mut Diagnostics, services: &[ServiceSpec]) {
    let mut names = HashMap::new();
    let mut destinations = HashMap::new();
    for spec in services {
        let name = &spec.service.name;
        if let Some(first) = names.insert(name.clone(), spec.spot) {
            let help = format!("the first is at {}", found.place(first));
            found.error(spec.spot, format!("a second service `{name}`"), Some(help));
        }
        for (at, spot) in spec.service.at.iter().zip(&spec.at) {
            if let Some((other, first)) = destinations.insert(at, (name, *spot)) {
                let help = format!(
                    "it is also that of service {other} at {}",
                    found.place(first)
                );
                let message = format!("{at} is the destination of two services");
                found.error(*spot, message, Some(help));
            }
        }
    }
}

fn sorted_roles(all: &FileSpec) -> Vec<RoleName> {
    let names = all
        .roles
        .iter()
        .map(|role| &role.name.value)
        .chain(&all.broken.roles);
    let mut names: Vec<_> = names.map(|name| RoleName::from(name.as_str())).collect();
    names.sort();
    names.dedup();
    names
}

fn role_index(roles: &[RoleName], name: &str) -> Option<RoleIndex> {
    let at = roles
        .binary_search_by(|role| role.as_str().cmp(name))
        .ok()?;
    RoleIndex::try_from(at).ok()
}

/// Each role's unix sockets; roles without any are left out.
fn unix_sockets(specs: &[RoleSpec], roles: &[RoleName]) -> HashMap<RoleIndex, Vec<Arc<str>>> {
    let named = specs.iter().filter(|spec| !spec.unix_sockets.is_empty());
    named
        .filter_map(|spec| {
            let sockets = spec.unix_sockets.iter().map(|name| name.as_str().into());
            Some((role_index(roles, &spec.name.value)?, sockets.collect()))
        })
        .collect()
}

fn audience(found: &mut Diagnostics, rule: &RuleSpec, roles: &[RoleName]) -> Option<Audience> {
    let name = &rule.role;
    if name.value == EVERY_ROLE {
        return Some(Audience::EveryRole);
    }
    let role = role_index(roles, &name.value);
    if role.is_none() {
        unknown(found, "role", name, &role_list(roles));
    }
    role.map(Audience::Role)
}

fn role_list(roles: &[RoleName]) -> Vec<&str> {
    roles.iter().map(RoleName::as_str).collect()
}

fn unknown(found: &mut Diagnostics, kind: &str, name: &At<String>, known: &[&str]) {
    let help = suggest(&name.value, &format!("{kind}s"), known);
    let message = format!("unknown {kind} `{}`", name.value.escape_debug());
    found.error(name.spot, message, Some(help));
}

/// Adds the rule to the index of each service that it reaches, and names those.
fn add_rule(
    found: &mut Diagnostics,
    number: RuleIndex,
    audience: Audience,
    rule: &RuleSpec,
    services: &[&str],
    indexes: &mut HashMap<ServiceName, ServiceIndex>,
) -> Vec<ServiceName> {
    let mut reached: BTreeMap<ServiceName, Vec<Box<str>>> = BTreeMap::new();
    for (text, alternatives) in &rule.on {
        for pattern in alternatives {
            let mut nowhere = true;
            for name in services.iter().filter(|name| pattern.service.matches(name)) {
                nowhere = false;
                let name = ServiceName::from(*name);
                let index = indexes.entry(name.clone()).or_default();
                index.add(number, audience, rule.denies, &rule.verbs, &pattern.scope);
                let written = reached.entry(name).or_default();
                if written.last().is_none_or(|last| **last != *text.value) {
                    written.push(text.value.as_str().into());
                }
            }
            if nowhere {
                let service = pattern.service.to_string();
                let message = format!("no service matches `{service}` of the pattern");
                let help = suggest(&service, "services", services);
                found.error(text.spot, message, Some(help));
                break;
            }
        }
    }
    let names = reached.keys().cloned().collect();
    if !rule.denies {
        for (name, on) in reached {
            let allow = AllowRule {
                rule: number,
                audience,
                verbs: rule.verbs.clone(),
                on,
            };
            indexes.entry(name).or_default().allows.push(allow);
        }
    }
    names
}

fn warn_of_unused(found: &mut Diagnostics, all: &FileSpec, used: &HashSet<ServiceName>) {
    let named: HashSet<&str> = all
        .rules
        .iter()
        .map(|rule| rule.role.value.as_str())
        .collect();
    for role in &all.roles {
        if !named.contains(role.name.value.as_str()) && !named.contains(EVERY_ROLE) {
            let message = format!("no rule is for role `{}`", role.name.value);
            found.warn(
                role.name.spot,
                message,
                Some("its sessions get nothing".into()),
            );
        }
    }
    for spec in &all.services {
        let name = &spec.service.name;
        if !used.contains(name) {
            let message = format!("no rule is on service `{name}`");
            found.warn(spec.spot, message, Some("nobody can connect to it".into()));
        }
    }
}

fn tie_test(
    found: &mut Diagnostics,
    test: TestSpec,
    roles: &[RoleName],
    membership: &Membership,
    services: &[&str],
) -> Option<TestCase> {
    let who = test.who.value.as_str();
    let theirs = match role_index(roles, who) {
        Some(role) => Some(vec![role]),
        None => membership.of_word(who).map(<[_]>::to_vec),
    };
    if theirs.is_none() {
        let mut known = role_list(roles);
        known.extend(membership.words());
        known.sort_unstable();
        known.dedup();
        unknown(found, "role or principal", &test.who, &known);
    }
    if !services.contains(&test.service.value.as_str()) {
        unknown(found, "service", &test.service, services);
        return None;
    }
    Some(TestCase {
        roles: theirs?,
        who: test.who.value.into(),
        service: ServiceName::from(test.service.value.as_str()),
        sql: test.sql.into(),
        expect: test.expect,
        place: found.problem(test.spot, "".into(), None),
    })
}
