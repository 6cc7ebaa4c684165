//! An entry of `rules:`.

use super::reader::{Fields, Reader, Shape};
use super::tree::Node;
use crate::policy::glob::{self, Pattern};
use crate::policy::problem::At;
use crate::policy::{Verb, expand_verb};

/// A rule with its groups and braces written out.
#[derive(Debug)]
pub(in crate::policy) struct RuleSpec {
    pub(in crate::policy) id: At<String>,
    /// A role's name, or `*`.
    pub(in crate::policy) role: At<String>,
    pub(in crate::policy) denies: bool,
    /// Each verb once, in order.
    pub(in crate::policy) verbs: Vec<Verb>,
    /// Each pattern as it is written.
    pub(in crate::policy) on: Vec<(At<String>, Vec<Pattern>)>,
}

const RULE: Shape = Shape {
    what: "a rule",
    known: &["id", "role", "allow", "deny", "on"],
    later: &[
        "approve",
        "approval",
        "require",
        "limits",
        "mask",
        "mask_opts",
        "commands",
        "redact_args",
        "hours",
        "mode",
        "grant",
    ],
};

/// Protocols of the design whose verbs this version does not have.
const LATER_VERBS: &[&str] = &["ssh", "http", "k8s", "kubernetes", "mcp", "mysql", "redis"];

pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Option<RuleSpec> {
    let fields = reader.fields(node, &RULE)?;
    let id = reader.required(&fields, "id").and_then(|id| {
        let id = reader.text(id, "`id`")?;
        reader.name(
            At {
                value: &id.value,
                spot: id.spot,
            },
            "the id of a rule",
        )
    });
    let role = reader
        .required(&fields, "role")
        .and_then(|role| reader.text(role, "`role`"));
    let effect = effect(reader, &fields);
    let on = reader
        .required(&fields, "on")
        .and_then(|on| patterns(reader, on));
    let (denies, verbs) = effect?;
    Some(RuleSpec {
        id: id?,
        role: role?,
        denies,
        verbs,
        on: on?,
    })
}

/// Whether the rule denies, and which verbs.
fn effect(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<(bool, Vec<Verb>)> {
    let (denies, node) = match (fields.optional("allow"), fields.optional("deny")) {
        (Some(allow), None) => (false, allow),
        (None, Some(deny)) => (true, deny),
        (Some(_), Some(deny)) => {
            let help = "make two rules of it; deny wins where both match";
            let spot = reader.spot(deny);
            reader.found.error(
                spot,
                "a rule with both `allow` and `deny`",
                Some(help.into()),
            );
            return None;
        }
        (None, None) => {
            let help = "write for example allow: [sql.select]";
            reader.found.error(
                fields.spot,
                "a rule has neither `allow` nor `deny`",
                Some(help.into()),
            );
            return None;
        }
    };
    let names = reader.texts(node, if denies { "`deny`" } else { "`allow`" })?;
    let mut verbs = Vec::new();
    let mut complete = true;
    for name in names {
        match expand_verb(&name.value) {
            Ok(more) => verbs.extend(more),
            Err(unknown) => {
                complete = false;
                let (message, help) = unknown_verb(&name.value, unknown.suggestion);
                reader.found.error(name.spot, message, Some(help));
            }
        }
    }
    verbs.sort_unstable();
    verbs.dedup();
    complete.then_some((denies, verbs))
}

fn unknown_verb(name: &str, suggestion: &str) -> (String, String) {
    let protocol = name.split('.').next().unwrap_or("");
    if LATER_VERBS.contains(&protocol) {
        let message = format!("`{}` is not supported by this version", name.escape_debug());
        return (
            message,
            "this version judges PostgreSQL: verbs begin with `sql.`".into(),
        );
    }
    let message = format!("unknown verb `{}`", name.escape_debug());
    (message, format!("did you mean `{suggestion}`?"))
}

fn patterns(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<(At<String>, Vec<Pattern>)>> {
    let texts = reader.texts(node, "`on`")?;
    let mut read = Vec::new();
    let mut complete = true;
    for text in texts {
        match glob::parse(&text.value) {
            Ok(alternatives) => {
                if alternatives.iter().any(Pattern::has_quoted_star) {
                    let help = "stars and braces work outside of the quotes only";
                    reader.found.warn(
                        text.spot,
                        "in double quotes, `*`, `{` and `}` stand for themselves",
                        Some(help.into()),
                    );
                }
                read.push((text, alternatives));
            }
            Err(error) => {
                complete = false;
                reader.found.error(text.spot, error.message, error.help);
            }
        }
    }
    complete.then_some(read)
}
