//! YAML text to a tree in which every key and value knows its place.
//!
//! The tree comes before the typed form so that one mistake does not hide the next: a
//! derived `Deserialize` stops at its first. Invariant: bounded in depth, nodes and time.
//! Absent on purpose: anchors, aliases, merge keys, tags, several documents in a file.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{
    DuplicateKeyPolicy, Error, Location, MergeKeyPolicy, MessageFormatter, Spanned,
    UserMessageFormatter,
};

use crate::policy::problem::{Diagnostics, Spot};

/// Levels of lists and mappings; the language needs six.
const MAX_DEPTH: usize = 16;

/// A value and its place in the file.
pub(super) type Node = Spanned<Value>;

/// What YAML makes of a node.
#[derive(Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// Whole numbers keep their value, the others only their kind.
    Integer(i64),
    OtherNumber,
    Text(String),
    List(Vec<Node>),
    /// Keys may be there twice: the reader of the mapping says so.
    Map(Vec<(Spanned<String>, Node)>),
}

impl Value {
    /// The kind as a message names it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Integer(_) | Self::OtherNumber => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number, a list or a mapping")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::OtherNumber, Value::Integer))
    }

    fn visit_i128<E>(self, _: i128) -> Result<Value, E> {
        Ok(Value::OtherNumber)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Value, E> {
        Ok(Value::OtherNumber)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::OtherNumber)
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Map(entries))
    }
}

/// The place of a node of the file.
pub(super) fn spot(file: usize, location: Location) -> Spot {
    let number = |wide: u64| u32::try_from(wide).unwrap_or(u32::MAX);
    Spot {
        file,
        line: number(location.line()),
        column: number(location.column()),
        width: u32::try_from(location.span().len()).unwrap_or(u32::MAX),
    }
}

/// The file's tree; none when it is no YAML, with the reason in `found`.
pub(super) fn parse(file: usize, text: &str, found: &mut Diagnostics) -> Option<Node> {
    let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_depth: MAX_DEPTH,
    flow_nesting_limit: MAX_DEPTH,
                max_anchors: 0,
                max_aliases: 0,
                max_documents: 1,
            },
            // Told one by one by the reader, so that a duplicate hides nothing else.
            duplicate_keys: DuplicateKeyPolicy::PassThrough,
            merge_keys: MergeKeyPolicy::Error,
            strict_booleans: true,
            reject_unsupported_tags: true,
            with_snippet: false,
        };
    match serde_saphyr::from_str_with_options::<Node>(text, options) {
        Ok(Spanned {
            value: Value::Null, ..
        }) => {
            let help = "a policy file begins with `version: 1`";
            found.error(Spot::whole(file), "the file is empty", Some(help.into()));
            None
        }
        Ok(tree) => Some(tree),
        Err(error) => {
            let at = error
                .location()
                .map_or(Spot::whole(file), |location| spot(file, location));
            let (at, message, help) = explain(&error, at, text);
            found.error(at, message, help.map(Into::into));
            None
        }
    }
}

/// The parser's error in the words of a policy's writer.
fn explain(error: &Error, at: Spot, text: &str) -> (Spot, String, Option<&'static str>) {
    if let Some((line, column)) = indenting_tab(text) {
        let at = Spot {
            line,
            column,
            width: 1,
            ..at
        };
        return (
            at,
            "a tab in the indentation".into(),
            Some("YAML indents with spaces only"),
        );
    }
    match error.without_snippet() {
        Error::Budget {
            breach: BudgetBreach::Anchors { .. } | BudgetBreach::Aliases { .. },
            ..
        } => (
            at,
            "anchors and aliases are not part of the policy language".into(),
            Some(
                "write the value out where it is used, so that a rule can be read where it stands",
            ),
        ),
        Error::Budget {
            breach: BudgetBreach::Documents { .. },
            ..
        }
        | Error::MultipleDocuments { .. } => (
            at,
            "a second YAML document in the file".into(),
            Some("use one file for each: all files of the directory are loaded"),
        ),
        Error::Budget {
            breach: BudgetBreach::Depth { .. },
            ..
        } => (at, too_deep(), None),
        Error::MergeKeyNotAllowed { .. } => (
            at,
            "merge keys (`<<`) are not part of the policy language".into(),
            Some("write the fields out"),
        ),
        plain => {
            let said = UserMessageFormatter.format_message(plain);
            // The scanner's own limit on brackets comes before the budget's on levels.
            let message = if said.contains("recursion limit") {
                too_deep()
            } else {
                format!("not readable as YAML: {said}")
            };
            (at, message, None)
        }
    }
}

fn too_deep() -> String {
    format!("nested deeper than {MAX_DEPTH} levels")
}

/// Line and column of the first tab that stands where only spaces may.
fn indenting_tab(text: &str) -> Option<(u32, u32)> {
    text.lines().zip(1..).find_map(|(line, number)| {
        let column = line.chars().position(|c| c != ' ')?;
        let tab = line.chars().nth(column) == Some('\t') && !line.trim().is_empty();
        tab.then(|| {
            (
                number,
                u32::try_from(column).map_or(u32::MAX, |column| column + 1),
            )
        })
    })
}
