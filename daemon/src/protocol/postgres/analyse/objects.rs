//! Statements that name objects of many kinds: DROP, ALTER ... RENAME / SET SCHEMA / OWNER,
//! COMMENT, GRANT.
//!
//! Invariant: what a schema contains is judged by its path in that schema, a schema itself as
//! `schema."*"`, so that rules on `schema.*` cover it, everything else on `server`.

use pg_query::protobuf::{GrantTargetType, ObjectType};

use super::names::{self, Kind, Name};
use super::query::schema_path;
use super::statements::SERVER;
use super::tree::{Node, Tree};
use super::walk::{At, Walker};
use crate::policy::Verb;

/// How a kind of object is named.
enum Named {
    /// `[schema.]name`.
    InSchema(Kind),
    /// `[schema.]table.name`: a part of a table.
    InTable,
    /// A type, and the name of a constraint of it.
    InDomain,
    Schema,
    Server,
}

fn naming(kind: ObjectType) -> Named {
    use ObjectType as Is;
    match kind {
        Is::ObjectTable
        | Is::ObjectView
        | Is::ObjectMatview
        | Is::ObjectIndex
        | Is::ObjectForeignTable
        | Is::ObjectSequence => Named::InSchema(Kind::Relation),
        Is::ObjectFunction | Is::ObjectProcedure | Is::ObjectRoutine | Is::ObjectAggregate => {
            Named::InSchema(Kind::Function)
        }
        Is::ObjectOperator => Named::InSchema(Kind::Operator),
        Is::ObjectCollation
        | Is::ObjectConversion
        | Is::ObjectDomain
        | Is::ObjectStatisticExt
        | Is::ObjectTsconfiguration
        | Is::ObjectTsdictionary
        | Is::ObjectTsparser
        | Is::ObjectTstemplate
        | Is::ObjectType => Named::InSchema(Kind::Other),
        Is::ObjectColumn
        | Is::ObjectPolicy
        | Is::ObjectRule
        | Is::ObjectTabconstraint
        | Is::ObjectTrigger => Named::InTable,
        Is::ObjectDomconstraint => Named::InDomain,
        Is::ObjectSchema => Named::Schema,
        _ => Named::Server,
    }
}

impl Walker<'_> {
    /// Judges a statement of this module; false when it is of another kind.
    pub(super) fn object_statement(&mut self, node: &Node) -> bool {
        let kind = match node.name {
            "DropStmt" => "remove_type",
            "CommentStmt" => "objtype",
            "RenameStmt" => "rename_type",
            "AlterObjectSchemaStmt" | "AlterObjectDependsStmt" | "AlterOwnerStmt" => "object_type",
            _ => return false,
        };
        let Some(kind) = self.object_kind(node, kind) else {
            return true;
        };
        if node.name == "AlterOwnerStmt" {
            self.on(Verb::SqlPrivilege, SERVER);
        }
        let relation = node.field("relation").unwrap_or(&Tree::Absent);
        let before = self.found();
        self.tree(relation, At::statement(Verb::SqlDdl));
        for field in ["object", "objects"] {
            match node.field(field) {
                Some(Tree::List(objects)) => {
                    objects.iter().for_each(|object| self.object(&kind, object))
                }
                Some(Tree::Absent) | None => {}
                Some(object) if *relation == Tree::Absent => self.object(&kind, object),
                Some(_) => {}
            }
        }
        self.moved(node, &kind);
        if self.found() == before {
            self.on(Verb::SqlAdmin, SERVER);
        }
        true
    }

    fn object_kind(&mut self, node: &Node, field: &str) -> Option<Named> {
        let kind = self.int(node, field);
        match i32::try_from(kind).map(ObjectType::try_from) {
            Ok(Ok(ObjectType::Undefined)) | Ok(Err(_)) | Err(_) => {
                self.unknown("an object of a kind that the gate does not know");
                None
            }
            Ok(Ok(kind)) => Some(naming(kind)),
        }
    }

    fn object(&mut self, kind: &Named, object: &Tree) {
        match kind {
            Named::Server => self.on(Verb::SqlAdmin, SERVER),
            Named::Schema => {
                let parts = self.object_name(object);
                parts
                    .iter()
                    .for_each(|schema| self.on(Verb::SqlDdl, &schema_path(schema)));
            }
            Named::InSchema(kind) => {
                let parts = self.object_name(object);
                self.on_name(Verb::SqlDdl, &parts, *kind);
            }
            Named::InTable => {
                let parts = self.object_name(object);
                match parts.split_last() {
                    Some((_, table)) => self.on_name(Verb::SqlDdl, table, Kind::Relation),
                    None => self.unknown("a part of a table with no table"),
                }
            }
            Named::InDomain => {
                let domain = list(object).first();
                let parts = domain
                    .map(|domain| self.object_name(domain))
                    .unwrap_or_default();
                self.on_name(Verb::SqlDdl, &parts, Kind::Other);
            }
        }
    }

    /// The place that RENAME and SET SCHEMA move an object to.
    fn moved(&mut self, node: &Node, kind: &Named) {
        let (field, renamed) = match node.name {
            "RenameStmt" => ("newname", true),
            "AlterObjectSchemaStmt" => ("newschema", false),
            _ => return,
        };
        let new = self.text(node, field);
        let kind = match kind {
            Named::InSchema(kind) => *kind,
            Named::Schema => {
                let old = self.text(node, "subname");
                self.on(Verb::SqlDdl, &schema_path(old));
                return self.on(Verb::SqlDdl, &schema_path(new));
            }
            _ => return,
        };
        let relation = node.field("relation").and_then(Tree::node);
        let parts = match (relation, node.field("object")) {
            (Some(range_var), _) => self.relation_parts(range_var),
            (None, Some(object)) => self.object_name(object),
            (None, None) => return self.unknown("a name that is moved from nowhere"),
        };
        let found = names::resolve(&parts, kind, self.context.search_path).unwrap_or_default();
        for Name { schema, name } in found {
            let path = if renamed {
                names::path(schema, new)
            } else {
                names::path(new, name)
            };
            self.on(Verb::SqlDdl, &path);
        }
    }

    /// The parts of an object's name: a list of words, a function with arguments, a type, or
    /// one word.
    pub(super) fn object_name<'t>(&mut self, tree: &'t Tree) -> Vec<&'t str> {
        if let Some(word) = tree.string() {
            return vec![word];
        }
        match tree.node() {
            Some(node) if node.name == "ObjectWithArgs" => {
                let name = self.field(node, "objname");
                self.parts(name)
            }
            Some(node) if node.name == "TypeName" => {
                let name = self.field(node, "names");
                self.parts(name)
            }
            Some(node) if node.name == "List" => {
                let items = self.field(node, "items");
                self.parts(items)
            }
            _ => self.parts(tree),
        }
    }

    /// GRANT and REVOKE.
    pub(super) fn grant(&mut self, node: &Node) {
        let target = self.int(node, "targtype");
        let Some(kind) = self.object_kind(node, "objtype") else {
            return;
        };
        let objects = self.field(node, "objects").items();
        let before = self.found();
        if target == GrantTargetType::AclTargetAllInSchema as i64 {
            for schema in objects {
                let parts = self.object_name(schema);
                parts
                    .iter()
                    .for_each(|schema| self.on(Verb::SqlPrivilege, &schema_path(schema)));
            }
        } else if target == GrantTargetType::AclTargetObject as i64 {
            objects
                .iter()
                .for_each(|object| self.granted(&kind, object));
        }
        if self.found() == before {
            self.on(Verb::SqlPrivilege, SERVER);
        }
    }

    fn granted(&mut self, kind: &Named, object: &Tree) {
        match (kind, object.node()) {
            (_, Some(node)) if node.name == "RangeVar" => {
                self.tree(object, At::statement(Verb::SqlPrivilege));
            }
            (Named::Schema, _) => {
                let parts = self.object_name(object);
                parts
                    .iter()
                    .for_each(|schema| self.on(Verb::SqlPrivilege, &schema_path(schema)));
            }
            (Named::InSchema(kind), _) => {
                let parts = self.object_name(object);
                self.on_name(Verb::SqlPrivilege, &parts, *kind);
            }
            _ => self.on(Verb::SqlPrivilege, SERVER),
        }
    }
}

/// The items of a list, bare or as a node.
fn list(tree: &Tree) -> &[Tree] {
    match tree
        .node()
        .filter(|node| node.name == "List")
        .and_then(|node| node.field("items"))
    {
        Some(items) => items.items(),
        None => tree.items(),
    }
}
