//! The walk over the parse tree that collects effects.
//!
//! It goes down every child of every node unless a rule for that node says otherwise, so
//! that no table, function or statement in the tree is missed. Invariant: a node, a field or
//! a hole that no rule knows ends in `sql.unknown`. Statements are in statements.rs, queries
//! in query.rs, functions and operators in calls.rs.

use std::collections::BTreeSet;

use super::Context;
use super::names::{self, Kind, Name};
use super::nodes::{has_holes, is_plain};
use super::tree::{Node, Tree};
use crate::policy::{Effect, Verb};

/// The common table expressions that are in sight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'s> {
    pub(super) outer: Option<&'s Scope<'s>>,
    pub(super) names: &'s [&'s str],
}

impl Scope<'_> {
    /// Nothing in sight: where a statement starts.
    pub(super) const EMPTY: Scope<'static> = Scope {
        outer: None,
        names: &[],
    };

    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(&name) || self.outer.is_some_and(|outer| outer.has(name))
    }
}

/// Where the walk is: what is in sight, and what a table that is named here suffers.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'s> {
    pub(super) scope: &'s Scope<'s>,
    pub(super) verb: Verb,
}

impl At<'static> {
    /// In a statement of its own that does `verb` to the tables that it names.
    pub(super) fn statement(verb: Verb) -> Self {
        At {
            scope: &Scope::EMPTY,
            verb,
        }
    }
}

/// A relation that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) path: String,
    /// A part of the catalog that every user may read.
    pub(super) open: bool,
}

/// Collects what a text does.
pub(super) struct Walker<'c> {
    pub(super) context: &'c Context<'c>,
    effects: BTreeSet<Effect>,
    /// Every read so far, in the order of the walk.
    pub(super) reads: Vec<Read>,
    problem: Option<Box<str>>,
    /// How often an effect was found, counting those found before.
    found: usize,
}

/// `DropBehavior::DropCascade`.
const CASCADE: Tree = Tree::Int(pg_query::protobuf::DropBehavior::DropCascade as i64);

static MISSING: Tree = Tree::Hole;

impl<'c> Walker<'c> {
    pub(super) fn new(context: &'c Context<'c>) -> Self {
        Self {
            context,
            effects: BTreeSet::new(),
            reads: Vec::new(),
            problem: None,
            found: 0,
        }
    }

    /// What was found, and what could not be read.
    pub(super) fn finish(self) -> (Vec<Effect>, Option<Box<str>>) {
        (self.effects.into_iter().collect(), self.problem)
    }

    /// Something that can't be judged; the first one is reported.
    pub(super) fn unknown(&mut self, why: impl Into<Box<str>>) {
        self.effects.insert(super::unknown());
        self.problem.get_or_insert_with(|| why.into());
    }

    pub(super) fn on(&mut self, verb: Verb, path: &str) {
        self.found += 1;
        self.effects.insert(Effect::on_path(verb, path));
        // A rule of this view calls set_config.
        if verb == Verb::SqlUpdate && path == "pg_catalog.pg_settings" {
            self.search_path_changes();
        }
    }

    pub(super) fn on_service(&mut self, verb: Verb) {
        self.found += 1;
        self.effects.insert(Effect::on_service(verb));
    }

    /// How often an effect was found so far; to see whether a part of a statement has one.
    pub(super) fn found(&self) -> usize {
        self.found
    }

    pub(super) fn read(&mut self, read: Read) {
        if read.open {
            self.on_service(Verb::SqlSelect);
        } else {
            self.on(Verb::SqlSelect, &read.path);
        }
        self.reads.push(read);
    }

    /// A field; one that is not there is a change in pg_query that this code must follow.
    pub(super) fn field<'t>(&mut self, node: &'t Node, name: &str) -> &'t Tree {
        match node.field(name) {
            Some(tree) => tree,
            None => {
                self.unknown(format!("the parse tree has no {}.{name}", node.name));
                &MISSING
            }
        }
    }

    pub(super) fn int(&mut self, node: &Node, name: &str) -> i64 {
        match self.field(node, name) {
            Tree::Int(value) => *value,
            _ => {
                self.unknown(format!("{}.{name} is not a number", node.name));
                0
            }
        }
    }

    pub(super) fn flag(&mut self, node: &Node, name: &str) -> bool {
        match self.field(node, name) {
            Tree::Bool(value) => *value,
            _ => {
                self.unknown(format!("{}.{name} is not a flag", node.name));
                true
            }
        }
    }

    pub(super) fn text<'t>(&mut self, node: &'t Node, name: &str) -> &'t str {
        match self.field(node, name) {
            Tree::Text(value) => value,
            _ => {
                self.unknown(format!("{}.{name} is not a text", node.name));
                ""
            }
        }
    }

    /// The parts of a name: a list of strings.
    pub(super) fn parts<'t>(&mut self, tree: &'t Tree) -> Vec<&'t str> {
        let parts: Option<Vec<_>> = tree.items().iter().map(Tree::string).collect();
        match parts {
            Some(parts) if !parts.is_empty() => parts,
            _ => {
                self.unknown("a name that is not a list of words");
                Vec::new()
            }
        }
    }

    /// Every object that a name may stand for; none where it can't be judged.
    pub(super) fn resolve<'n>(&mut self, parts: &[&'n str], kind: Kind) -> Vec<Name<'n>>
    where
        'c: 'n,
    {
        match names::resolve(parts, kind, self.context.search_path) {
            Ok(found) => found,
            Err(why) => {
                self.unknown(why.to_string());
                Vec::new()
            }
        }
    }

    /// The verb on every object that a name may stand for.
    pub(super) fn on_name(&mut self, verb: Verb, parts: &[&str], kind: Kind) {
        for name in self.resolve(parts, kind) {
            self.on(verb, &name.path());
        }
    }

    pub(super) fn tree(&mut self, tree: &Tree, at: At<'_>) {
        match tree {
            Tree::Node(node) => self.node(node, at),
            Tree::List(items) => items.iter().for_each(|item| self.tree(item, at)),
            Tree::Hole => {
                self.unknown("a part of the statement that the parser did not write down")
            }
            Tree::Absent | Tree::Bool(_) | Tree::Int(_) | Tree::Text(_) => {}
        }
    }

    /// All children.
    pub(super) fn children(&mut self, node: &Node, at: At<'_>) {
        self.children_but(node, &[], at);
    }

    /// All children but those of some fields, which the caller has seen to.
    pub(super) fn children_but(&mut self, node: &Node, seen: &[&str], at: At<'_>) {
        for (field, child) in &node.fields {
            match child {
                Tree::Absent | Tree::Bool(_) | Tree::Int(_) | Tree::Text(_) => {}
                _ if seen.contains(field) => {}
                Tree::List(items) if has_holes(node.name, field) => items
                    .iter()
                    .filter(|item| **item != Tree::Hole)
                    .for_each(|item| self.tree(item, at)),
                Tree::List(_) | Tree::Node(_) | Tree::Hole => self.tree(child, at),
            }
        }
    }

    fn node(&mut self, node: &Node, at: At<'_>) {
        if node.field("behavior") == Some(&CASCADE) {
            self.unknown("CASCADE reaches objects that the statement does not name");
        }
        match node.name {
            "RangeVar" => self.range_var(node, at),
            "SelectStmt" => self.select(node, at.scope),
            "InsertStmt" => self.insert(node, at.scope),
            "UpdateStmt" => self.update(node, at.scope),
            "DeleteStmt" => self.delete(node, at.scope),
            "MergeStmt" => self.merge(node, at.scope),
            plain if is_plain(plain) => self.children(node, at),
            _ => {
                if !self.call(node, at) && !self.statement(node) {
                    self.unknown(format!(
                        "{} is not a construct that the gate knows",
                        node.name
                    ));
                    self.children(node, at);
                }
            }
        }
    }

    /// The parts of a relation's name as it is written.
    pub(super) fn relation_parts<'t>(&mut self, range_var: &'t Node) -> Vec<&'t str> {
        let database = self.text(range_var, "catalogname");
        let schema = self.text(range_var, "schemaname");
        let name = self.text(range_var, "relname");
        let persistence = self.text(range_var, "relpersistence");
        match (database, schema) {
            // What is made temporary goes to the session's own schema.
            ("", "") if persistence == "t" => vec!["pg_temp", name],
            ("", "") => vec![name],
            ("", schema) => vec![schema, name],
            (database, schema) => vec![database, schema, name],
        }
    }

    fn range_var(&mut self, node: &Node, at: At<'_>) {
        let parts = self.relation_parts(node);
        if at.verb != Verb::SqlSelect {
            return self.on_name(at.verb, &parts, Kind::Relation);
        }
        // Only an unqualified name can be a common table expression, and it wins.
        if let [name] = *parts
            && at.scope.has(name)
        {
            return;
        }
        for name in self.resolve(&parts, Kind::Relation) {
            let open = super::lists::is_open_relation(name.schema, name.name);
            self.read(Read {
                path: name.path(),
                open,
            });
        }
    }
}
