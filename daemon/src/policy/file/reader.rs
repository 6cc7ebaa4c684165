//! Takes a tree apart, field by field, and says everything that does not fit.
//!
//! Invariant: what the language does not know is an error, never skipped; what a later
//! version knows is an error that says so. Absent on purpose: any meaning of the fields.

use std::collections::HashMap;

use serde_saphyr::Spanned;

use super::tree::{self, Node, Value};
use crate::policy::problem::{At, Diagnostics, Spot, suggest};

/// The fields that a mapping may have.
pub(super) struct Shape {
    /// What the mapping is, as messages name it: `a rule`.
    pub(super) what: &'static str,
    /// Fields of this version.
    pub(super) known: &'static [&'static str],
    /// Fields of the design that this version does not enforce.
    pub(super) later: &'static [&'static str],
}

/// A mapping's known fields.
pub(super) struct Fields<'n> {
    pub(super) spot: Spot,
    what: &'static str,
    values: HashMap<&'n str, &'n Node>,
}

impl<'n> Fields<'n> {
    pub(super) fn optional(&self, name: &str) -> Option<&'n Node> {
        self.values.get(name).copied()
    }
}

/// Reads one file.
pub(super) struct Reader<'d> {
    pub(super) file: usize,
    pub(super) found: &'d mut Diagnostics,
}

impl Reader<'_> {
    pub(super) fn spot<T>(&self, node: &Spanned<T>) -> Spot {
        tree::spot(self.file, node.referenced)
    }

    /// The entries of a mapping with free names, each name once.
    pub(super) fn entries<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
    ) -> Option<Vec<(At<&'n str>, &'n Node)>> {
        let Value::Map(entries) = &node.value else {
            self.expected(node, what, "a mapping");
            return None;
        };
        let mut first = HashMap::new();
        let mut once = Vec::new();
        for (key, value) in entries {
            let name = key.value.as_str();
            let spot = self.spot(key);
            if let Some(line) = first.insert(name, spot.line) {
                let message = format!("`{}` is there twice in {what}", name.escape_debug());
                self.found
                    .error(spot, message, Some(format!("the first is in line {line}")));
            } else {
                once.push((At { value: name, spot }, value));
            }
        }
        Some(once)
    }

    /// The fields of a mapping; unknown ones are errors.
    pub(super) fn fields<'n>(&mut self, node: &'n Node, shape: &Shape) -> Option<Fields<'n>> {
        let entries = self.entries(node, shape.what)?;
        let mut values = HashMap::new();
        for (name, value) in entries {
            if shape.known.contains(&name.value) {
                values.insert(name.value, value);
            } else if shape.later.contains(&name.value) {
                let message = format!(
                    "`{}` of {} is not supported by this version",
                    name.value, shape.what
                );
                let help = "nothing would enforce it, so the policy is refused: take it out";
                self.found.error(name.spot, message, Some(help.into()));
            } else {
                let message = format!(
                    "unknown field `{}` of {}",
                    name.value.escape_debug(),
                    shape.what
                );
                let help = suggest(name.value, "fields", shape.known);
                self.found.error(name.spot, message, Some(help));
            }
        }
        Some(Fields {
            spot: self.spot(node),
            what: shape.what,
            values,
        })
    }

    /// The entries of an optional field with free names.
    pub(super) fn entries_of<'n>(
        &mut self,
        fields: &Fields<'n>,
        name: &str,
    ) -> Vec<(At<&'n str>, &'n Node)> {
        let node = fields.optional(name);
        node.and_then(|node| self.entries(node, &format!("`{name}`")))
            .unwrap_or_default()
    }

    /// The items of an optional field.
    pub(super) fn items_of<'n>(&mut self, fields: &Fields<'n>, name: &str) -> &'n [Node] {
        let node = fields.optional(name);
        node.and_then(|node| self.list(node, &format!("`{name}`")))
            .unwrap_or(&[])
    }

    /// A field that has to be there.
    pub(super) fn required<'n>(&mut self, fields: &Fields<'n>, name: &str) -> Option<&'n Node> {
        let value = fields.optional(name);
        if value.is_none() {
            let message = format!("{} has no `{name}`", fields.what);
            self.found.error(fields.spot, message, None);
        }
        value
    }

    /// Text that is not empty and has no control characters.
    pub(super) fn text(&mut self, node: &Node, what: &str) -> Option<At<String>> {
        let spot = self.spot(node);
        let Value::Text(text) = &node.value else {
            self.expected(node, what, "text");
            return None;
        };
        if text.is_empty() {
            self.found.error(spot, format!("{what} is empty"), None);
            return None;
        }
        if text.chars().any(char::is_control) {
            self.found
                .error(spot, format!("a control character in {what}"), None);
            return None;
        }
        Some(At {
            value: text.clone(),
            spot,
        })
    }

    /// Text as it is, line breaks and all.
    pub(super) fn any_text(&mut self, node: &Node, what: &str) -> Option<String> {
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            _ => {
                self.expected(node, what, "text");
                None
            }
        }
    }

    /// A name that rules, roles, services and principals may have.
    pub(super) fn name(&mut self, name: At<&str>, what: &str) -> Option<At<String>> {
        const LONGEST: usize = 128;
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let fits = name.value.len() <= LONGEST
            && name.value.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.value.chars().all(plain);
        if !fits {
            let message = format!("`{}` can't be {what}", name.value.escape_debug());
            let help = format!(
                "a name begins with a letter or digit, goes on with these or `-`, `_`, `.` and \
                 has at most {LONGEST} characters"
            );
            self.found.error(name.spot, message, Some(help));
            return None;
        }
        Some(At {
            value: name.value.into(),
            spot: name.spot,
        })
    }

    /// A list with at least one item.
    pub(super) fn list<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Node]> {
        let Value::List(items) = &node.value else {
            self.expected(node, what, "a list");
            return None;
        };
        if items.is_empty() {
            self.found
                .error(self.spot(node), format!("{what} is an empty list"), None);
            return None;
        }
        Some(items)
    }

    /// A list of texts with at least one item.
    pub(super) fn texts(&mut self, node: &Node, what: &str) -> Option<Vec<At<String>>> {
        let items = self.list(node, what)?;
        let texts: Vec<_> = items.iter().map(|item| self.text(item, what)).collect();
        texts.into_iter().collect()
    }

    fn expected(&mut self, node: &Node, what: &str, kind: &str) {
        let spot = self.spot(node);
        let message = format!("{what} is {kind}, not {}", node.value.kind());
        let help = match (&node.value, kind) {
            (Value::Null, "a mapping") => Some("write {} where there is nothing to say".to_owned()),
            (Value::Null, _) => Some("leave the field out, or say what it is".to_owned()),
            (Value::Text(text), "a list") => Some(format!("write ['{}']", text.escape_debug())),
            (Value::Bool(_) | Value::Integer(_) | Value::OtherNumber, "text") => {
                Some("put it in quotes".to_owned())
            }
            _ => None,
        };
        self.found.error(spot, message, help);
    }
}
