//! The words of a refusal: what, why, and what would be allowed instead.
//!
//! Everything here goes to the agent, so it is short, in one line, and names nothing but
//! what the agent asked for and what its own roles may do.

use std::fmt::Write;

use super::index::RuleIndex;
use super::matcher::{Policy, Subject};
use super::{Denial, DenyReason, Effect, Object, Verb};

/// Names or patterns that a hint lists.
const LISTED: usize = 4;
/// Characters of an object's name that are repeated to the agent.
const LONGEST_NAME: usize = 160;

/// Why, while it is being decided.
#[derive(Debug, Clone, Copy)]
pub(super) enum Why {
    Denied(RuleIndex),
    NotAllowed,
    NoRole,
    NoRuleOnService,
}

pub(super) fn denial(
    policy: &Policy,
    subject: &Subject<'_>,
    effect: Option<&Effect>,
    why: Why,
) -> Denial {
    let what = describe(subject, effect);
    let roles = roles(policy, subject);
    let (reason, rule, message) = match why {
        Why::Denied(rule) => {
            let rule = policy.rule(rule).cloned();
            let id = rule.as_ref().map_or("?", |rule| &rule.id);
            let message = format!("{what} is denied by rule {id}");
            (DenyReason::DeniedByRule, rule, message)
        }
        Why::NotAllowed => (
            DenyReason::NotAllowed,
            None,
            format!("{what} is allowed by no rule of {roles}"),
        ),
        Why::NoRole => {
            let principal = shortened(subject.principal);
            (
                DenyReason::NoRole,
                None,
                format!("principal {principal} has no role in the policy"),
            )
        }
        Why::NoRuleOnService => {
            let service = subject.service;
            let message = format!("no rule of {roles} allows anything on {service}");
            (DenyReason::NoRuleOnService, None, message)
        }
    };
    Denial {
        reason,
        effect: effect.cloned(),
        rule,
        generation: policy.generation(),
        message: message.into(),
        hint: hint(policy, subject, effect).map(Into::into),
    }
}

/// `sql.delete on shop/public.customers`
fn describe(subject: &Subject<'_>, effect: Option<&Effect>) -> String {
    let service = subject.service;
    match effect {
        None => format!("a connection to {service}"),
        Some(Effect {
            verb,
            object: Object::Service,
        }) => format!("{verb} on {service}"),
        Some(Effect {
            verb,
            object: Object::Path(path),
        }) => {
            format!("{verb} on {service}/{}", shortened(path))
        }
    }
}

/// One line of at most [`LONGEST_NAME`] characters.
fn shortened(name: &str) -> String {
    let mut short = String::new();
    for c in name.chars().take(LONGEST_NAME) {
        if c.is_control() {
            short.extend(c.escape_default());
        } else {
            short.push(c);
        }
    }
    if name.chars().nth(LONGEST_NAME).is_some() {
        short.push_str("...");
    }
    short
}

fn roles(policy: &Policy, subject: &Subject<'_>) -> String {
    let names = policy.role_names(subject.roles);
    let word = if names.len() == 1 { "role" } else { "roles" };
    let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
    format!("{word} {}", listed(&names))
}

/// The first few, and how many more there are.
fn listed(names: &[&str]) -> String {
    let mut text = names
        .iter()
        .take(LISTED)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > LISTED {
        // Writing to a String can't fail.
        let _ = write!(text, " and {} more", names.len() - LISTED);
    }
    text
}

/// Where the subject may use this verb, or else which verbs it may use here.
fn hint(policy: &Policy, subject: &Subject<'_>, effect: Option<&Effect>) -> Option<String> {
    let index = policy.indexes.get(subject.service)?;
    let verb = effect?.verb;
    let who = if subject.roles.len() == 1 {
        "this role"
    } else {
        "these roles"
    };
    if verb == Verb::SqlUnknown {
        return Some("the gate can't tell what the statement does; write it more plainly".into());
    }
    let allows = || index.allows_of(subject.roles);
    let mut places: Vec<&str> = allows()
        .filter(|allow| allow.verbs.contains(&verb))
        .flat_map(|allow| allow.on.iter().map(|on| &**on))
        .collect();
    places.sort_unstable();
    places.dedup();
    if !places.is_empty() {
        return Some(format!("{who} may {verb} on {}", listed(&places)));
    }
    let mut verbs: Vec<Verb> = allows()
        .flat_map(|allow| allow.verbs.iter().copied())
        .collect();
    verbs.sort_unstable();
    verbs.dedup();
    let verbs: Vec<&str> = verbs.into_iter().map(Verb::name).collect();
    let service = subject.service;
    (!verbs.is_empty()).then(|| format!("{who} may {} on {service}", listed(&verbs)))
}
