//! `when` of a role: who has it. One mapping, or a list of them, each enough by itself.
//!
//! A mapping speaks of one kind of proof: somebody's word (`as`), a cgroup's path
//! (`cgroup`), or a token (`issuer` and what further it must say).

use super::reader::{Fields, Reader, Shape};
use super::tree::{Node, Value};
use crate::policy::cgroup::CgroupPattern;
use crate::policy::problem::At;
use crate::types::parse_duration;

/// One way to have a role.
#[derive(Debug)]
pub(in crate::policy) enum When {
    As(Vec<At<String>>),
    Cgroup(Vec<At<CgroupPattern>>),
    Token(TokenWhen),
}

/// What a token must say: all of it, and of each list one.
#[derive(Debug, Clone, Default)]
pub(in crate::policy) struct TokenWhen {
    pub(in crate::policy) issuers: Vec<String>,
    pub(in crate::policy) audiences: Option<Vec<String>>,
    pub(in crate::policy) groups: Option<Vec<String>>,
    pub(in crate::policy) subjects: Option<Vec<String>>,
    pub(in crate::policy) claims: Vec<(String, Vec<String>)>,
    /// Seconds after `iat`.
    pub(in crate::policy) max_age: Option<i64>,
}

const WHEN: Shape = Shape {
    what: "`when`",
    known: &[
        "as", "cgroup", "issuer", "audience", "groups", "subject", "claims", "max_age",
    ],
    later: &[],
};
const OF_TOKENS: [&str; 6] = [
    "issuer", "audience", "groups", "subject", "claims", "max_age",
];

pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<When>> {
    match &node.value {
        Value::List(_) => {
            let items = reader.list(node, "`when`")?;
            let all: Vec<_> = items.iter().map(|item| one(reader, item)).collect();
            all.into_iter().collect()
        }
        _ => Some(vec![one(reader, node)?]),
    }
}

fn one(reader: &mut Reader<'_>, node: &Node) -> Option<When> {
    let fields = reader.fields(node, &WHEN)?;
    let has = |name: &&str| fields.optional(name).is_some();
    let of_token = OF_TOKENS.into_iter().find(has);
    let kinds = [
        fields.optional("as").map(|_| "as"),
        fields.optional("cgroup").map(|_| "cgroup"),
        of_token,
    ];
    let kinds: Vec<&str> = kinds.into_iter().flatten().collect();
    match *kinds.as_slice() {
        ["as"] => names(reader, &fields).map(When::As),
        ["cgroup"] => patterns(reader, &fields).map(When::Cgroup),
        [_] => token(reader, &fields).map(When::Token),
        [] => {
            let help = "write who has the role: `as`, `cgroup`, or `issuer` and `groups`";
            let message = "`when` says nothing";
            reader.found.error(fields.spot, message, Some(help.into()));
            None
        }
        [first, second, ..] => {
            let message = format!("`{first}` and `{second}` in one `when`");
            let help = "nobody is known in two ways: make it a list, one mapping for each way";
            let spot = fields.optional(second).map(|node| reader.spot(node));
            let spot = spot.unwrap_or(fields.spot);
            reader.found.error(spot, message, Some(help.into()));
            None
        }
    }
}

fn names(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Vec<At<String>>> {
    let node = reader.required(fields, "as")?;
    let names = reader.texts(node, "`as`")?;
    let checked: Vec<_> = names
        .iter()
        .map(|name| At {
            value: name.value.as_str(),
            spot: name.spot,
        })
        .map(|name| reader.name(name, "the name of a principal"))
        .collect();
    checked.into_iter().collect()
}

fn patterns(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Vec<At<CgroupPattern>>> {
    let node = reader.required(fields, "cgroup")?;
    let texts = one_or_more(reader, node, "`cgroup`")?;
    let checked: Vec<_> = texts
        .into_iter()
        .map(|At { value, spot }| match CgroupPattern::parse(&value) {
            Ok(value) => Some(At { value, spot }),
            Err((message, help)) => {
                reader.found.error(spot, message, Some(help.into()));
                None
            }
        })
        .collect();
    checked.into_iter().collect()
}

fn token(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<TokenWhen> {
    let Some(issuer) = fields.optional("issuer") else {
        let message = "`when` speaks of a token and names no `issuer`";
        let help = "another issuer may give the same group or subject to somebody else";
        reader.found.error(fields.spot, message, Some(help.into()));
        return None;
    };
    let issuers = values(reader, issuer, "`issuer`");
    let mut optional = |name: &str| match fields.optional(name) {
        Some(node) => values(reader, node, &format!("`{name}`")).map(Some),
        None => Some(None),
    };
    let (audiences, groups, subjects) = (
        optional("audience"),
        optional("groups"),
        optional("subject"),
    );
    let claims = match fields.optional("claims") {
        Some(node) => claims(reader, node),
        None => Some(Vec::new()),
    };
    let max_age = match fields.optional("max_age") {
        Some(node) => max_age(reader, node).map(Some),
        None => Some(None),
    };
    Some(TokenWhen {
        issuers: issuers?,
        audiences: audiences?,
        groups: groups?,
        subjects: subjects?,
        claims: claims?,
        max_age: max_age?,
    })
}

fn claims(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<(String, Vec<String>)>> {
    let entries = reader.entries(node, "`claims`")?;
    if entries.is_empty() {
        let spot = reader.spot(node);
        reader.found.error(spot, "`claims` is empty", None);
        return None;
    }
    let read: Vec<_> = entries
        .into_iter()
        .map(|(name, node)| {
            let of_its_own = match name.value {
                "iss" => Some("issuer"),
                "aud" => Some("audience"),
                "sub" => Some("subject"),
                "iat" | "exp" => Some("max_age"),
                _ => None,
            };
            if let Some(field) = of_its_own {
                let message = format!("`{}` is no claim to compare here", name.value);
                let help = format!("use `{field}` of `when`");
                reader.found.error(name.spot, message, Some(help));
                return None;
            }
            let what = format!("claim `{}`", name.value.escape_debug());
            Some((name.value.to_owned(), values(reader, node, &what)?))
        })
        .collect();
    read.into_iter().collect()
}

fn max_age(reader: &mut Reader<'_>, node: &Node) -> Option<i64> {
    let text = reader.text(node, "`max_age`")?;
    let seconds = parse_duration(&text.value).map(|length| length.as_secs());
    let seconds = seconds.and_then(|seconds| i64::try_from(seconds).ok());
    if seconds.is_none() {
        let message = format!("`{}` is not a length of time", text.value.escape_debug());
        let help = "write 90s, 10m, 1h or 7d";
        reader.found.error(text.spot, message, Some(help.into()));
    }
    seconds
}

fn values(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Vec<String>> {
    let texts = one_or_more(reader, node, what)?;
    Some(texts.into_iter().map(|text| text.value).collect())
}

fn one_or_more(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Vec<At<String>>> {
    match &node.value {
        Value::List(_) => reader.texts(node, what),
        _ => Some(vec![reader.text(node, what)?]),
    }
}
