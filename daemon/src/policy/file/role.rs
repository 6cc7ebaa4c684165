//! An entry of `roles:`.

use super::reader::{Reader, Shape};
use super::tree::Node;
use crate::policy::problem::At;

/// A role; without `when` it has the principal of its own name.
#[derive(Debug)]
pub(in crate::policy) struct RoleSpec {
    pub(in crate::policy) name: At<String>,
    pub(in crate::policy) principals: Option<Vec<At<String>>>,
}

const ROLE: Shape = Shape {
    what: "a role",
    known: &["when"],
    later: &[],
};

const WHEN: Shape = Shape {
    what: "`when`",
    known: &["as"],
    later: &[
        "cgroup", "issuer", "audience", "groups", "max_age", "claims", "subject",
    ],
};

pub(super) fn read(reader: &mut Reader<'_>, name: At<&str>, node: &Node) -> Option<RoleSpec> {
    let name = reader.name(name, "the name of a role");
    let fields = reader.fields(node, &ROLE)?;
    let principals = match fields.optional("when") {
        Some(when) => Some(principals(reader, when)?),
        None => None,
    };
    Some(RoleSpec {
        name: name?,
        principals,
    })
}

fn principals(reader: &mut Reader<'_>, when: &Node) -> Option<Vec<At<String>>> {
    let fields = reader.fields(when, &WHEN)?;
    let names = reader.required(&fields, "as")?;
    let names = reader.texts(names, "`as`")?;
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
