//! The rules of one service, sorted so that a decision looks at few of them.
//!
//! For each verb and for allow and deny apart: patterns without stars are found by the
//! object's name, patterns with a fixed schema by the schema, the rest is gone through.
//! Invariant: within each list, rules stand in ascending order.

use std::borrow::Cow;
use std::collections::HashMap;

use super::Verb;
use super::glob::{ObjectPath, Part, Reach, Scope};

/// A rule's place in the policy's list, which is sorted by id.
pub(super) type RuleIndex = u32;
/// A role's place in the policy's list, which is sorted by name.
pub(super) type RoleIndex = u32;

/// Whom a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// `role: '*'`
    EveryRole,
    Role(RoleIndex),
}

impl Audience {
    pub(super) fn includes(self, roles: &[RoleIndex]) -> bool {
        match self {
            Self::EveryRole => !roles.is_empty(),
            Self::Role(role) => roles.contains(&role),
        }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    rule: RuleIndex,
    audience: Audience,
    scope: Scope,
}

/// Allow rules or deny rules of one verb.
#[derive(Debug, Default)]
pub(super) struct ScopeIndex {
    /// By `schema.name`, see [`name_key`].
    named: HashMap<Box<str>, Vec<Entry>>,
    /// By schema, where the name has stars.
    in_schema: HashMap<Box<str>, Vec<Entry>>,
    /// Where the schema has stars.
    other: Vec<Entry>,
    /// The service and everything below it.
    everything: Vec<Entry>,
}

impl ScopeIndex {
    fn add(&mut self, entry: Entry) {
        let list = match &entry.scope {
            Scope::Everything => &mut self.everything,
            Scope::Name(Part::Literal(schema), Part::Literal(name)) => {
                self.named.entry(name_key(schema, name).into()).or_default()
            }
            Scope::Name(Part::Literal(schema), _) => {
                self.in_schema.entry(schema.clone()).or_default()
            }
            Scope::Name(..) => &mut self.other,
        };
        list.push(entry);
    }

    /// The first rule for these roles that covers the service as a whole.
    pub(super) fn on_everything(&self, roles: &[RoleIndex]) -> Option<RuleIndex> {
        first(&self.everything, roles, |_| true)
    }

    /// The first rule for these roles that covers all of the object.
    pub(super) fn covering(&self, roles: &[RoleIndex], object: &Lookup<'_>) -> Option<RuleIndex> {
        self.reaching(roles, object, Reach::All)
    }

    /// The first rule for these roles that matches the object or anything inside of it.
    pub(super) fn touching(&self, roles: &[RoleIndex], object: &Lookup<'_>) -> Option<RuleIndex> {
        let whole = self.reaching(roles, object, Reach::All);
        if object.path.name.is_some() {
            return whole;
        }
        // A whole schema: rules that name something in it stand under other keys.
        let within = |list: &Vec<Entry>| {
            first(list, roles, |scope| {
                scope.reach(&object.path) != Reach::Nothing
            })
        };
        let inside = self
            .named
            .values()
            .chain(self.in_schema.values())
            .filter_map(within);
        inside.chain(within(&self.other)).chain(whole).min()
    }

    fn reaching(
        &self,
        roles: &[RoleIndex],
        object: &Lookup<'_>,
        reach: Reach,
    ) -> Option<RuleIndex> {
        let fits = |scope: &Scope| scope.reach(&object.path) == reach;
        let named = object.key.as_deref().and_then(|key| self.named.get(key));
        let in_schema = self.in_schema.get(&*object.path.schema);
        let keyed = named.into_iter().chain(in_schema);
        keyed
            .filter_map(|list| first(list, roles, fits))
            .chain(first(&self.other, roles, fits))
            .chain(self.on_everything(roles))
            .min()
    }
}

fn first(
    entries: &[Entry],
    roles: &[RoleIndex],
    fits: impl Fn(&Scope) -> bool,
) -> Option<RuleIndex> {
    entries
        .iter()
        .find(|entry| entry.audience.includes(roles) && fits(&entry.scope))
        .map(|entry| entry.rule)
}

/// An object's path, prepared for several look-ups.
#[derive(Debug)]
pub(super) struct Lookup<'a> {
    path: ObjectPath<'a>,
    key: Option<Cow<'a, str>>,
}

impl<'a> Lookup<'a> {
    /// None for a path that is none.
    pub(super) fn new(text: &'a str) -> Option<Self> {
        let path = ObjectPath::parse(text)?;
        let key = path.name.as_deref().map(|name| {
            // The usual path is its own key: two parts, no quotes.
            if text.len() == path.schema.len() + 1 + name.len() {
                Cow::Borrowed(text)
            } else {
                Cow::Owned(name_key(&path.schema, name))
            }
        });
        Some(Self { path, key })
    }
}

/// One text for two parts. A dot within a part may make two names share a key: what is
/// found under it is compared part by part.
fn name_key(schema: &str, name: &str) -> String {
    format!("{schema}.{name}")
}

/// Allow and deny rules of one verb on one service.
#[derive(Debug, Default)]
pub(super) struct VerbIndex {
    pub(super) allow: ScopeIndex,
    pub(super) deny: ScopeIndex,
}

/// An allow rule on a service, for hints and for effects on the service as a whole.
#[derive(Debug)]
pub(super) struct AllowRule {
    pub(super) rule: RuleIndex,
    pub(super) audience: Audience,
    pub(super) verbs: Vec<Verb>,
    /// The patterns that reach this service, as they are written.
    pub(super) on: Vec<Box<str>>,
}

/// All rules on one service.
#[derive(Debug)]
pub(super) struct ServiceIndex {
    verbs: Vec<VerbIndex>,
    pub(super) allows: Vec<AllowRule>,
}

impl Default for ServiceIndex {
    fn default() -> Self {
        let verbs = std::iter::repeat_with(VerbIndex::default)
            .take(Verb::COUNT)
            .collect();
        Self {
            verbs,
            allows: Vec::new(),
        }
    }
}

impl ServiceIndex {
    /// Adds a rule's scope. Rules come in ascending order.
    pub(super) fn add(
        &mut self,
        rule: RuleIndex,
        audience: Audience,
        denies: bool,
        verbs: &[Verb],
        scope: &Scope,
    ) {
        for verb in verbs {
            if let Some(index) = self.verbs.get_mut(*verb as usize) {
                let side = if denies {
                    &mut index.deny
                } else {
                    &mut index.allow
                };
                side.add(Entry {
                    rule,
                    audience,
                    scope: scope.clone(),
                });
            }
        }
    }

    pub(super) fn verb(&self, verb: Verb) -> Option<&VerbIndex> {
        self.verbs.get(verb as usize)
    }

    /// The first allow rule for these roles, whatever it allows.
    pub(super) fn any_allow(&self, roles: &[RoleIndex]) -> Option<RuleIndex> {
        self.allows_of(roles).next().map(|allow| allow.rule)
    }

    /// The allow rules for these roles.
    pub(super) fn allows_of(&self, roles: &[RoleIndex]) -> impl Iterator<Item = &AllowRule> {
        self.allows
            .iter()
            .filter(move |allow| allow.audience.includes(roles))
    }
}
