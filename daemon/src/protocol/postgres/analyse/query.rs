//! SELECT, INSERT, UPDATE, DELETE and MERGE: common table expressions and their scope,
//! targets, row locks, and what of the target is read.
//!
//! Invariant: a target is never a common table expression, and a statement that lets its
//! sender learn of the target's rows (WHERE, RETURNING, a column in an expression, the
//! arbiter of ON CONFLICT) reads it. PostgreSQL asks for SELECT in the same cases.

use pg_query::protobuf::{CmdType, OnConflictAction};

use super::names::{self, Kind, Name};
use super::tree::{Node, Tree};
use super::walk::{At, Read, Scope, Walker};
use crate::policy::Verb;

impl Walker<'_> {
    pub(super) fn select(&mut self, node: &Node, outer: &Scope<'_>) {
        let names = self.with(node, outer);
        let scope = Scope {
            outer: Some(outer),
            names: &names,
        };
        let at = At {
            scope: &scope,
            verb: Verb::SqlSelect,
        };
        let from = self.field(node, "from_clause");
        let before = self.reads.len();
        if self.reads_one_setting(node) {
            self.read(Read {
                path: "pg_catalog.pg_settings".into(),
                open: true,
            });
        } else {
            self.tree(from, at);
        }
        let reads: Vec<Read> = self.reads.iter().skip(before).cloned().collect();
        for clause in self.field(node, "locking_clause").items() {
            self.lock_rows(clause, from, &scope, &reads);
        }
        let into = self.field(node, "into_clause");
        self.tree(
            into,
            At {
                scope: &scope,
                verb: Verb::SqlDdl,
            },
        );
        let seen = [
            "with_clause",
            "from_clause",
            "locking_clause",
            "into_clause",
        ];
        self.children_but(node, &seen, at);
    }

    /// Judges the queries of the WITH clause, each with what it can see, and returns the
    /// names that the statement itself can see.
    fn with<'t>(&mut self, node: &'t Node, outer: &Scope<'_>) -> Vec<&'t str> {
        let clause = match self.field(node, "with_clause") {
            Tree::Absent => return Vec::new(),
            Tree::Node(clause) => clause,
            _ => {
                self.unknown("a WITH clause that is none");
                return Vec::new();
            }
        };
        let recursive = self.flag(clause, "recursive");
        let mut names = Vec::new();
        let mut queries = Vec::new();
        for tree in self.field(clause, "ctes").items() {
            match tree.node() {
                Some(cte) if cte.name == "CommonTableExpr" => {
                    names.push(self.text(cte, "ctename"));
                    queries.push(cte);
                }
                _ => self.unknown("a WITH query that is none"),
            }
        }
        for (index, cte) in queries.into_iter().enumerate() {
            let visible = if recursive { names.len() } else { index };
            let scope = Scope {
                outer: Some(outer),
                names: names.get(..visible).unwrap_or(&[]),
            };
            self.children(
                cte,
                At {
                    scope: &scope,
                    verb: Verb::SqlSelect,
                },
            );
        }
        names
    }

    /// FOR UPDATE and its kin. Where the tables can't be told from the names, it locks all
    /// that FROM reads.
    fn lock_rows(&mut self, clause: &Tree, from: &Tree, scope: &Scope<'_>, reads: &[Read]) {
        let Some(clause) = clause.node().filter(|node| node.name == "LockingClause") else {
            return self.unknown("a locking clause that is none");
        };
        let named = self.field(clause, "locked_rels").items();
        let mut items = Vec::new();
        self.name_items(from, &mut items);
        let mut locked = Vec::new();
        for tree in named {
            let alias = tree.node().map(|node| self.text(node, "relname"));
            let mut found = items.iter().filter(|(name, _)| Some(*name) == alias);
            match (found.next(), found.next()) {
                (Some((_, Some(range_var))), None) => locked.push(*range_var),
                _ => locked.clear(),
            }
            if locked.is_empty() {
                break;
            }
        }
        if locked.is_empty() {
            return reads
                .iter()
                .for_each(|read| self.on(Verb::SqlLock, &read.path));
        }
        for range_var in locked {
            let parts = self.relation_parts(range_var);
            if !matches!(*parts, [name] if scope.has(name)) {
                self.on_name(Verb::SqlLock, &parts, Kind::Relation);
            }
        }
    }

    /// The names that FROM gives to its items, and the table where it is a plain one.
    fn name_items<'t>(&mut self, from: &'t Tree, items: &mut Vec<(&'t str, Option<&'t Node>)>) {
        for tree in from.items() {
            self.name_item(tree, items);
        }
    }

    fn name_item<'t>(&mut self, tree: &'t Tree, items: &mut Vec<(&'t str, Option<&'t Node>)>) {
        let Some(node) = tree.node() else { return };
        let alias = node.field("alias").and_then(Tree::node);
        let alias = alias.map(|alias| self.text(alias, "aliasname"));
        match node.name {
            "RangeVar" => {
                let name = self.text(node, "relname");
                items.push((alias.unwrap_or(name), Some(node)));
            }
            _ => {
                items.extend(alias.map(|alias| (alias, None)));
                for side in ["larg", "rarg", "relation"] {
                    node.field(side)
                        .into_iter()
                        .for_each(|side| self.name_item(side, items));
                }
            }
        }
    }

    /// The paths of the table that a statement changes.
    fn target(&mut self, node: &Node) -> Vec<String> {
        match self
            .field(node, "relation")
            .node()
            .filter(|node| node.name == "RangeVar")
        {
            Some(range_var) => {
                let parts = self.relation_parts(range_var);
                self.resolve(&parts, Kind::Relation)
                    .iter()
                    .map(Name::path)
                    .collect()
            }
            None => {
                self.unknown("a statement with no target");
                Vec::new()
            }
        }
    }

    fn all(&mut self, verb: Verb, paths: &[String]) {
        paths.iter().for_each(|path| self.on(verb, path));
    }

    fn read_target(&mut self, paths: Vec<String>) {
        paths
            .into_iter()
            .for_each(|path| self.read(Read { path, open: false }));
    }

    /// Everything of a statement but its target and its WITH clause.
    fn rest(&mut self, node: &Node, outer: &Scope<'_>) {
        let names = self.with(node, outer);
        let scope = Scope {
            outer: Some(outer),
            names: &names,
        };
        let at = At {
            scope: &scope,
            verb: Verb::SqlSelect,
        };
        self.children_but(node, &["with_clause", "relation"], at);
    }

    pub(super) fn insert(&mut self, node: &Node, outer: &Scope<'_>) {
        let target = self.target(node);
        self.all(Verb::SqlInsert, &target);
        let conflict = self.field(node, "on_conflict_clause");
        let returning = self.field(node, "returning_clause");
        let mut reads = *returning != Tree::Absent;
        if let Some(clause) = conflict.node() {
            if self.int(clause, "action") != OnConflictAction::OnconflictNothing as i64 {
                self.all(Verb::SqlUpdate, &target);
            }
            reads |= *self.field(clause, "infer") != Tree::Absent || conflict.contains("ColumnRef");
        }
        if reads {
            self.read_target(target);
        }
        self.rest(node, outer);
    }

    pub(super) fn update(&mut self, node: &Node, outer: &Scope<'_>) {
        let target = self.target(node);
        self.all(Verb::SqlUpdate, &target);
        if self.looks_at_target(
            node,
            &["where_clause", "returning_clause"],
            &["target_list", "from_clause"],
        ) {
            self.read_target(target);
        }
        self.rest(node, outer);
    }

    pub(super) fn delete(&mut self, node: &Node, outer: &Scope<'_>) {
        let target = self.target(node);
        self.all(Verb::SqlDelete, &target);
        if self.looks_at_target(
            node,
            &["where_clause", "returning_clause"],
            &["using_clause"],
        ) {
            self.read_target(target);
        }
        self.rest(node, outer);
    }

    /// Whether one of `clauses` is there, or a column is named in one of `lists`.
    fn looks_at_target(&mut self, node: &Node, clauses: &[&str], lists: &[&str]) -> bool {
        clauses
            .iter()
            .any(|clause| *self.field(node, clause) != Tree::Absent)
            || lists
                .iter()
                .any(|list| self.field(node, list).contains("ColumnRef"))
    }

    pub(super) fn merge(&mut self, node: &Node, outer: &Scope<'_>) {
        let target = self.target(node);
        self.all(Verb::SqlMerge, &target);
        for clause in self.field(node, "merge_when_clauses").items() {
            let Some(clause) = clause.node() else {
                self.unknown("a WHEN clause that is none");
                continue;
            };
            let command = self.int(clause, "command_type");
            let verb = match i32::try_from(command).map(CmdType::try_from) {
                Ok(Ok(CmdType::CmdInsert)) => Verb::SqlInsert,
                Ok(Ok(CmdType::CmdUpdate)) => Verb::SqlUpdate,
                Ok(Ok(CmdType::CmdDelete)) => Verb::SqlDelete,
                Ok(Ok(CmdType::CmdNothing)) => continue,
                _ => {
                    self.unknown("a WHEN clause that does something else");
                    continue;
                }
            };
            self.all(verb, &target);
        }
        self.read_target(target);
        self.rest(node, outer);
    }
}

/// The object that stands for a schema and all that is in it.
pub(super) fn schema_path(schema: &str) -> String {
    names::path(schema, "*")
}
