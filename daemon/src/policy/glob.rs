//! Patterns of `on:`: `service`, `service/*`, `service/schema.name`.
//!
//! `*` stands for any characters within one part of a name, `{a,b}` for either; a part in
//! double quotes is taken as it is. Matching is on the names themselves, not on their
//! quoted spelling: `hr.*` reaches `hr."Weird.Name"`, and `hr.pay*` reaches `hr."pay/old"`.
//! Absent on purpose: `?`, `[a-z]`, `**`, patterns for columns.

use std::borrow::Cow;
use std::fmt;

use super::problem::nearest;

/// Alternatives that the braces of one pattern may make.
const MAX_ALTERNATIVES: usize = 256;
/// Bytes of a pattern: bounds the depth of its braces.
const MAX_LENGTH: usize = 1_024;

/// One part of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// `*`
    Any,
    /// Exactly this.
    Literal(Box<str>),
    /// Text between stars: the first is a prefix, the last a suffix.
    Glob(Box<[Box<str>]>),
}

impl Part {
    pub(super) fn matches(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Literal(literal) => **literal == *name,
            Self::Glob(chunks) => glob_matches(chunks, name),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Literal(text) => f.write_str(text),
            Self::Glob(chunks) => f.write_str(&chunks.join("*")),
        }
    }
}

fn glob_matches(chunks: &[Box<str>], name: &str) -> bool {
    let [first, middle @ .., last] = chunks else {
        return false;
    };
    let Some(rest) = name
        .strip_prefix(&**first)
        .and_then(|rest| rest.strip_suffix(&**last))
    else {
        return false;
    };
    // The leftmost place for each piece leaves the most room for the next.
    let mut rest = rest;
    for piece in middle {
        let Some(at) = rest.find(&**piece) else {
            return false;
        };
        rest = rest.get(at + piece.len()..).unwrap_or("");
    }
    true
}

/// What of a service a pattern covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    /// `service` or `service/*`: the service and everything below it.
    Everything,
    /// `service/schema.name`.
    Name(Part, Part),
}

/// One alternative of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) service: Part,
    pub(super) scope: Scope,
}

impl Pattern {
    /// Whether a quoted name holds what would be special outside of quotes.
    pub(super) fn has_quoted_star(&self) -> bool {
        let odd =
            |part: &Part| matches!(part, Part::Literal(text) if text.contains(['*', '{', '}']));
        matches!(&self.scope, Scope::Name(schema, name) if odd(schema) || odd(name))
    }
}

/// How far a pattern reaches into an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Nothing,
    /// Something inside of it, not all: a deny applies, an allow does not cover it.
    Some,
    All,
}

impl Scope {
    pub(super) fn reach(&self, object: &ObjectPath<'_>) -> Reach {
        match (self, &object.name) {
            (Self::Everything, _) => Reach::All,
            (Self::Name(schema, _), _) if !schema.matches(&object.schema) => Reach::Nothing,
            (Self::Name(_, name), Some(object)) if name.matches(object) => Reach::All,
            (Self::Name(..), Some(_)) => Reach::Nothing,
            // A whole schema.
            (Self::Name(_, Part::Any), None) => Reach::All,
            (Self::Name(..), None) => Reach::Some,
        }
    }
}

/// An object's path, unquoted. Further parts lie inside the named object and change nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ObjectPath<'a> {
    pub(super) schema: Cow<'a, str>,
    pub(super) name: Option<Cow<'a, str>>,
}

impl<'a> ObjectPath<'a> {
    /// None for what no analyser should have sent: empty parts, stray quotes.
    pub(super) fn parse(path: &'a str) -> Option<Self> {
        let (schema, rest) = object_part(path)?;
        let Some(mut rest) = rest else {
            return Some(Self { schema, name: None });
        };
        let (name, mut more) = object_part(rest)?;
        while let Some(further) = more {
            rest = further;
            (_, more) = object_part(rest)?;
        }
        Some(Self {
            schema,
            name: Some(name),
        })
    }
}

/// The first part of a path and what follows its dot.
fn object_part(path: &str) -> Option<(Cow<'_, str>, Option<&str>)> {
    if let Some(quoted) = path.strip_prefix('"') {
        let (name, rest) = quoted_part(quoted)?;
        return match rest.strip_prefix('.') {
            Some(rest) => Some((name.into(), Some(rest))),
            None => rest.is_empty().then_some((name.into(), None)),
        };
    }
    let (part, rest) = match path.split_once('.') {
        Some((part, rest)) => (part, Some(rest)),
        None => (path, None),
    };
    (!part.is_empty() && !part.contains('"')).then_some((part.into(), rest))
}

/// The name up to the closing quote and what follows it; `""` is a quote in the name.
fn quoted_part(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        name.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                name.push('"');
                rest = after;
            }
            None => return (!name.is_empty()).then_some((name, after)),
        }
    }
}

/// Why a pattern can't be read, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct PatternError {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

fn wrong<T>(message: impl Into<String>, help: impl Into<String>) -> Result<T, PatternError> {
    Err(PatternError {
        message: message.into(),
        help: Some(help.into()),
    })
}

/// The alternatives that a pattern of `on:` stands for.
pub(super) fn parse(text: &str) -> Result<Vec<Pattern>, PatternError> {
    if text.len() > MAX_LENGTH {
        let message = format!("a pattern longer than {MAX_LENGTH} bytes");
        return wrong(message, "write several patterns");
    }
    let mut spelled = Vec::new();
    expand(text, &mut spelled)?;
    spelled.iter().map(|plain| parse_plain(plain)).collect()
}

/// Writes out the braces.
fn expand(text: &str, out: &mut Vec<String>) -> Result<(), PatternError> {
    let Some(open) = find_unquoted(text, |c| c == '{' || c == '}') else {
        if out.len() >= MAX_ALTERNATIVES {
            let message = format!("the braces make more than {MAX_ALTERNATIVES} alternatives");
            return wrong(message, "write several patterns");
        }
        out.push(text.to_owned());
        return Ok(());
    };
    let (before, braced) = text.split_at(open);
    let Some(braced) = braced.strip_prefix('{') else {
        return wrong("a `}` with no `{` before it", "write {a,b}");
    };
    let mut depth = 0_usize;
    let mut cuts = Vec::new();
    let mut start = 0;
    let close = find_unquoted_at(braced, |at, c| {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return true,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                cuts.push((start, at));
                start = at + 1;
            }
            _ => {}
        }
        false
    });
    let Some(close) = close else {
        return wrong("a `{` with no `}` after it", "write {a,b}");
    };
    cuts.push((start, close));
    let after = braced.get(close + 1..).unwrap_or("");
    for (from, to) in cuts {
        let alternative = braced.get(from..to).unwrap_or("");
        expand(&format!("{before}{alternative}{after}"), out)?;
    }
    Ok(())
}

fn find_unquoted(text: &str, mut wanted: impl FnMut(char) -> bool) -> Option<usize> {
    find_unquoted_at(text, |_, c| wanted(c))
}

fn find_unquoted_at(text: &str, mut wanted: impl FnMut(usize, char) -> bool) -> Option<usize> {
    let mut quoted = false;
    text.char_indices()
        .find(|&(at, c)| {
            quoted ^= c == '"';
            !quoted && c != '"' && wanted(at, c)
        })
        .map(|(at, _)| at)
}

fn parse_plain(text: &str) -> Result<Pattern, PatternError> {
    let (service, path) = match text.split_once('/') {
        Some((service, path)) => (service, Some(path)),
        None => (text, None),
    };
    let service =
        stars(service, |c| c.is_ascii_alphanumeric() || "_-.".contains(c)).map_err(|what| {
            PatternError {
                message: format!("`{text}`: {what} in the name of the service"),
                help: Some("write service, service/* or service/schema.name".into()),
            }
        })?;
    let scope = match path {
        None | Some("*") => Scope::Everything,
        Some(path) => parse_path(text, path)?,
    };
    Ok(Pattern { service, scope })
}

fn parse_path(text: &str, path: &str) -> Result<Scope, PatternError> {
    let (schema, rest) = pattern_part(text, path)?;
    let Some(rest) = rest else {
        let help = match nearest(path, ["*"]) {
            Some(_) => "write service/* for everything".to_owned(),
            None => format!("write {path}.* for all of a schema, or public.{path} for a table"),
        };
        return wrong(
            format!("`{text}` names neither a schema nor a table for certain"),
            help,
        );
    };
    let (name, rest) = pattern_part(text, rest)?;
    if rest.is_some() {
        return wrong(
            format!("`{text}` has more parts than schema.name"),
            "the database is the service's, not the path's; a dot in a name needs double quotes",
        );
    }
    Ok(Scope::Name(schema, name))
}

/// The first part of a pattern's path and what follows its dot.
fn pattern_part<'a>(whole: &str, path: &'a str) -> Result<(Part, Option<&'a str>), PatternError> {
    if let Some(quoted) = path.strip_prefix('"') {
        let Some((name, rest)) = quoted_part(quoted) else {
            return wrong(
                format!("`{whole}`: a quoted name that does not end"),
                "write \"Name\"",
            );
        };
        let rest = match rest.strip_prefix('.') {
            Some(rest) => Some(rest),
            None if rest.is_empty() => None,
            None => {
                return wrong(
                    format!("`{whole}`: text right after a quoted name"),
                    "quotes go around a whole part; stars and braces stand outside of them",
                );
            }
        };
        return Ok((Part::Literal(name.into()), rest));
    }
    let (part, rest) = match path.split_once('.') {
        Some((part, rest)) => (part, Some(rest)),
        None => (path, None),
    };
    if part.contains('(') {
        return wrong(
            format!("`{whole}`: columns in a pattern are not supported by this version"),
            "a rule covers whole tables",
        );
    }
    if part.is_empty() {
        return wrong(
            format!("`{whole}`: an empty name"),
            "write service, service/* or service/schema.name",
        );
    }
    let plain = |c: char| (c.is_alphanumeric() && !c.is_ascii_uppercase()) || "_$".contains(c);
    let part = stars(part, plain).map_err(|what| PatternError {
        message: format!("`{whole}`: {what} in `{part}`"),
        help: Some(if part.chars().any(|c| c.is_ascii_uppercase()) {
            format!(
                "names without quotes are lower case: write {}, or \"{part}\" when the server \
                 keeps the capitals",
                part.to_ascii_lowercase()
            )
        } else {
            "a name of other characters than a-z, 0-9, _ and $ stands in double quotes".into()
        }),
    })?;
    Ok((part, rest))
}

/// A part with stars; the error says what does not belong there.
fn stars(text: &str, plain: impl Fn(char) -> bool) -> Result<Part, String> {
    if text.is_empty() {
        return Err("nothing".into());
    }
    if text.contains("**") {
        return Err("`**`".into());
    }
    if let Some(other) = text.chars().find(|c| *c != '*' && !plain(*c)) {
        let kind = if other.is_ascii_uppercase() {
            "the capital "
        } else {
            ""
        };
        return Err(format!("{kind}`{other}`"));
    }
    if text == "*" {
        return Ok(Part::Any);
    }
    if text.contains('*') {
        return Ok(Part::Glob(text.split('*').map(Into::into).collect()));
    }
    Ok(Part::Literal(text.into()))
}

#[cfg(test)]
#[path = "glob_tests.rs"]
mod tests;
