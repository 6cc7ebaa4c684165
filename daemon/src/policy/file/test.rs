//! An entry of `tests:`.

use super::reader::{Reader, Shape};
use super::tree::Node;
use crate::policy::problem::{At, Spot, suggest};

/// The decision that a test expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) enum Expect {
    Allow,
    Deny,
}

/// One statement and the decision that it must get.
#[derive(Debug)]
pub(in crate::policy) struct TestSpec {
    pub(in crate::policy) spot: Spot,
    /// A role's name, or else a principal's.
    pub(in crate::policy) who: At<String>,
    pub(in crate::policy) service: At<String>,
    pub(in crate::policy) sql: String,
    pub(in crate::policy) expect: Expect,
}

const TEST: Shape = Shape {
    what: "a test",
    known: &["as", "on", "sql", "expect"],
    later: &["masked", "ssh", "http", "params", "hour"],
};

pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Option<TestSpec> {
    let fields = reader.fields(node, &TEST)?;
    let who = reader
        .required(&fields, "as")
        .and_then(|node| reader.text(node, "`as`"));
    let service = reader
        .required(&fields, "on")
        .and_then(|node| reader.text(node, "`on`"));
    let sql = reader
        .required(&fields, "sql")
        .and_then(|node| reader.any_text(node, "`sql`"));
    let expect = reader
        .required(&fields, "expect")
        .and_then(|node| expect(reader, node));
    let (who, service) = (who?, service?);
    Some(TestSpec {
        spot: fields.spot,
        who,
        service,
        sql: sql?,
        expect: expect?,
    })
}

fn expect(reader: &mut Reader<'_>, node: &Node) -> Option<Expect> {
    let text = reader.text(node, "`expect`")?;
    match text.value.as_str() {
        "allow" => Some(Expect::Allow),
        "deny" => Some(Expect::Deny),
        "approve" => {
            let message = "`expect: approve` is not supported by this version";
            let help = "nothing is held for approval yet: allow or deny";
            reader.found.error(text.spot, message, Some(help.into()));
            None
        }
        other => {
            let message = format!("unknown `expect: {other}`");
            let help = suggest(other, "values", &["allow", "deny"]);
            reader.found.error(text.spot, message, Some(help));
            None
        }
    }
}
