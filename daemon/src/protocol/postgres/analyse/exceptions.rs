//! Two shapes that drivers send and that the general rules would refuse.
//!
//! Each is written so narrowly that it can say nothing which the open part of the catalog
//! does not; a shape that differs in anything falls back to the general rules.

use super::lists;
use super::names::Kind;
use super::tree::{Node, Tree};
use super::walk::{At, Walker};
use crate::policy::Verb;

impl Walker<'_> {
    /// `pg_catalog.pg_am.amname != current_setting(...)`, as SQLAlchemy reflects tables. The
    /// column holds a handful of fixed words, so the comparison shows no other value.
    pub(super) fn compares_access_method(&mut self, node: &Node, at: At<'_>) -> bool {
        let operator = node.field("name").map(Tree::items).unwrap_or_default();
        let Some((left, call)) = sides(node) else {
            return false;
        };
        let arguments = call.field("args").map(Tree::items).unwrap_or_default();
        let function = call.field("funcname").map(Tree::items).unwrap_or_default();
        let shape = words(operator) == ["<>"]
            && call.name == "FuncCall"
            && is_column(left, &["pg_catalog", "pg_am", "amname"])
            && matches!(
                *words(function),
                ["current_setting"] | ["pg_catalog", "current_setting"]
            )
            && arguments.len() == 1;
        if !shape {
            return false;
        }
        let found = self.resolve(&words(function), Kind::Function);
        if found.iter().any(|found| found.schema != "pg_catalog") {
            return false;
        }
        self.on_service(Verb::SqlSession);
        arguments
            .iter()
            .for_each(|argument| self.tree(argument, at));
        true
    }

    /// `FROM pg_catalog.pg_settings WHERE name = '<a readable setting>'` with nothing else in
    /// it, as JDBC asks for max_index_keys: a SHOW by other means.
    pub(super) fn reads_one_setting(&mut self, select: &Node) -> bool {
        let [Tree::Node(table)] = select
            .field("from_clause")
            .map(Tree::items)
            .unwrap_or_default()
        else {
            return false;
        };
        if table.name != "RangeVar"
            || self.relation_parts(table) != ["pg_catalog", "pg_settings"]
            || table.field("alias") != Some(&Tree::Absent)
        {
            return false;
        }
        let Some(filter) = select.field("where_clause").and_then(Tree::node) else {
            return false;
        };
        let operator = filter.field("name").map(Tree::items).unwrap_or_default();
        let Some((left, right)) = sides(filter) else {
            return false;
        };
        let setting = right
            .field("val")
            .and_then(Tree::node)
            .filter(|_| right.name == "AConst");
        let setting = setting
            .and_then(|val| val.field("sval"))
            .and_then(Tree::string);
        words(operator) == ["="]
            && is_column(left, &["name"])
            && setting.is_some_and(lists::is_readable_setting)
    }
}

/// The two sides of a plain operator.
fn sides(node: &Node) -> Option<(&Node, &Node)> {
    let plain = Tree::Int(pg_query::protobuf::AExprKind::AexprOp as i64);
    if node.name != "AExpr" || node.field("kind") != Some(&plain) {
        return None;
    }
    Some((node.field("lexpr")?.node()?, node.field("rexpr")?.node()?))
}

fn is_column(node: &Node, parts: &[&str]) -> bool {
    node.name == "ColumnRef"
        && words(node.field("fields").map(Tree::items).unwrap_or_default()) == parts
}

/// The words of a name; nothing if it has anything else in it.
fn words(items: &[Tree]) -> Vec<&str> {
    items
        .iter()
        .map(Tree::string)
        .collect::<Option<_>>()
        .unwrap_or_default()
}
