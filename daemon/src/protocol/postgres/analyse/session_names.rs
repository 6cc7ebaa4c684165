//! What a text does to the session's prepared statements and cursors.
//!
//! Looks at the top statements only: nothing below them makes or uses such a name, except
//! where statements.rs says unknown (`EXPLAIN EXECUTE`, `CREATE TABLE AS EXECUTE`).

use super::tree::{Node, Tree};
use super::walk::{At, Walker};
use super::{Context, Verb};
use crate::protocol::{Changed, NameKind, Names, Use};

/// `CURSOR_OPT_HOLD` of PostgreSQL's parsenodes.h.
const HOLD: i64 = 0x20;

/// The names of all statements of a text.
pub(super) fn of(tree: &Tree, context: &Context<'_>) -> Names {
    let mut names = Names::default();
    let statements: Vec<&Node> = tree.items().iter().filter_map(statement).collect();
    for node in &statements {
        match node.name {
            "PrepareStmt" => change(&mut names.statements, text(node, "name")),
            "DeallocateStmt" => match text(node, "name") {
                "" => names.statements = Changed::All,
                name => change(&mut names.statements, name),
            },
            // A block may prepare and drop statements, and open cursors.
            "DiscardStmt" | "DoStmt" => {
                names.statements = Changed::All;
                names.cursors = Changed::All;
            }
            "DeclareCursorStmt" => change(&mut names.cursors, text(node, "portalname")),
            "ClosePortalStmt" => match text(node, "portalname") {
                "" => names.cursors = Changed::All,
                name => change(&mut names.cursors, name),
            },
            _ => {}
        }
    }
    // With several statements it is not plain which of them a name stands for.
    if let ([node], 1) = (statements.as_slice(), tree.items().len()) {
        names.defines = defines(node);
        names.uses = uses(node, context);
    }
    names
}

fn statement(item: &Tree) -> Option<&Node> {
    item.node()?.field("stmt")?.node()
}

fn defines(node: &Node) -> Option<(NameKind, Box<str>)> {
    match node.name {
        "PrepareStmt" => Some((NameKind::Statement, text(node, "name").into())),
        "DeclareCursorStmt" => {
            let hold =
                matches!(node.field("options"), Some(Tree::Int(options)) if options & HOLD != 0);
            Some((NameKind::Cursor { hold }, text(node, "portalname").into()))
        }
        _ => None,
    }
}

fn uses(node: &Node, context: &Context<'_>) -> Option<Use> {
    let (kind, name) = match node.name {
        "ExecuteStmt" => (NameKind::Statement, text(node, "name")),
        "FetchStmt" => (NameKind::Cursor { hold: false }, text(node, "portalname")),
        _ => return None,
    };
    let mut walker = Walker::new(context);
    walker.children(node, At::statement(Verb::SqlSelect));
    walker.on_service(Verb::SqlSession);
    let (beside, _) = walker.finish();
    Some(Use {
        kind,
        name: name.into(),
        beside,
    })
}

/// A text field; empty where it is none, which is no name.
fn text<'t>(node: &'t Node, field: &str) -> &'t str {
    match node.field(field) {
        Some(Tree::Text(text)) => text,
        _ => "",
    }
}

fn change(changed: &mut Changed, name: &str) {
    match changed {
        Changed::Nothing => *changed = Changed::Some(vec![name.into()]),
        Changed::Some(names) => names.push(name.into()),
        Changed::All => {}
    }
}
