//! Every kind of statement that is not a query: what it does, and to which objects.
//!
//! An allow-list: a kind that is not here is `sql.unknown`. What has no schema (roles,
//! databases, extensions, the server itself) is judged on the path `server`.

use pg_query::protobuf::{AlterTableType, TransactionStmtKind};

use super::names::{self, Kind};
use super::tree::{Node, Tree};
use super::walk::{At, Walker};
use crate::policy::Verb;

/// The object of what touches no object of a schema.
pub(super) const SERVER: &str = "server";

/// Does this to every relation that it names; its queries and calls are judged as such.
fn on_relations(statement: &str) -> Option<Verb> {
    Some(match statement {
        "AlterSeqStmt" | "AlterTableStmt" | "CompositeTypeStmt" | "CreateSeqStmt"
        | "CreateStatsStmt" | "CreateStmt" | "CreateTableAsStmt" | "IndexStmt"
        | "RefreshMatViewStmt" | "RuleStmt" | "ViewStmt" => Verb::SqlDdl,
        "AlterPolicyStmt" | "CreatePolicyStmt" => Verb::SqlPrivilege,
        "LockStmt" => Verb::SqlLock,
        "TruncateStmt" => Verb::SqlTruncate,
        "ClusterStmt" | "ReindexStmt" | "VacuumStmt" => Verb::SqlAdmin,
        _ => return None,
    })
}

/// Makes or changes the object whose name is in this field.
fn on_named(statement: &str) -> Option<(&'static str, Kind)> {
    Some(match statement {
        "AlterCollationStmt" => ("collname", Kind::Other),
        "AlterDomainStmt" | "AlterEnumStmt" | "AlterTypeStmt" | "CreateEnumStmt"
        | "CreateRangeStmt" => ("type_name", Kind::Other),
        "AlterFunctionStmt" => ("func", Kind::Function),
        "AlterOperatorStmt" => ("opername", Kind::Operator),
        "AlterStatsStmt" => ("defnames", Kind::Other),
        "AlterTsConfigurationStmt" => ("cfgname", Kind::Other),
        "AlterTsDictionaryStmt" => ("dictname", Kind::Other),
        "CreateConversionStmt" => ("conversion_name", Kind::Other),
        "CreateDomainStmt" => ("domainname", Kind::Other),
        "CreateFunctionStmt" => ("funcname", Kind::Function),
        "DefineStmt" => ("defnames", Kind::Other),
        _ => return None,
    })
}

/// Brings code into the database that the gate does not read.
fn brings_code(statement: &str) -> bool {
    matches!(
        statement,
        "CreateCastStmt"
            | "CreateConversionStmt"
            | "CreateFunctionStmt"
            | "CreateOpClassStmt"
            | "CreatePLangStmt"
            | "CreateRangeStmt"
            | "CreateTransformStmt"
            | "DefineStmt"
            | "DoStmt"
    )
}

/// Does this to the server or the database as a whole.
fn on_server(statement: &str) -> Option<Verb> {
    Some(match statement {
        "AlterDefaultPrivilegesStmt"
        | "AlterRoleSetStmt"
        | "AlterRoleStmt"
        | "AlterUserMappingStmt"
        | "CreateRoleStmt"
        | "CreateUserMappingStmt"
        | "DropOwnedStmt"
        | "DropRoleStmt"
        | "DropUserMappingStmt"
        | "GrantRoleStmt"
        | "ReassignOwnedStmt"
        | "SecLabelStmt" => Verb::SqlPrivilege,
        "AlterDatabaseRefreshCollStmt"
        | "AlterDatabaseSetStmt"
        | "AlterDatabaseStmt"
        | "AlterEventTrigStmt"
        | "AlterExtensionContentsStmt"
        | "AlterExtensionStmt"
        | "AlterFdwStmt"
        | "AlterForeignServerStmt"
        | "AlterOpFamilyStmt"
        | "AlterPublicationStmt"
        | "AlterSubscriptionStmt"
        | "AlterSystemStmt"
        | "AlterTableMoveAllStmt"
        | "AlterTableSpaceOptionsStmt"
        | "CheckPointStmt"
        | "CreateAmStmt"
        | "CreateCastStmt"
        | "CreateEventTrigStmt"
        | "CreateExtensionStmt"
        | "CreateFdwStmt"
        | "CreateForeignServerStmt"
        | "CreateForeignTableStmt"
        | "CreateOpClassStmt"
        | "CreateOpFamilyStmt"
        | "CreatePLangStmt"
        | "CreatePublicationStmt"
        | "CreateSubscriptionStmt"
        | "CreateTableSpaceStmt"
        | "CreateTransformStmt"
        | "CreatedbStmt"
        | "DropSubscriptionStmt"
        | "DropTableSpaceStmt"
        | "DropdbStmt"
        | "ImportForeignSchemaStmt" => Verb::SqlAdmin,
        "DoStmt" => Verb::SqlProcedural,
        "LoadStmt" => Verb::SqlUnsafeIo,
        _ => return None,
    })
}

/// Touches nothing but the session's own state.
fn on_session(statement: &str) -> Option<Verb> {
    Some(match statement {
        "ClosePortalStmt" | "DeallocateStmt" | "DiscardStmt" => Verb::SqlSession,
        "ConstraintsSetStmt" => Verb::SqlTx,
        "UnlistenStmt" => Verb::SqlNotify,
        _ => return None,
    })
}

impl Walker<'_> {
    /// Judges a statement; false when its kind is not known.
    pub(super) fn statement(&mut self, node: &Node) -> bool {
        let at = At::statement(Verb::SqlSelect);
        match node.name {
            "RawStmt" => match self.field(node, "stmt") {
                Tree::Node(_) => self.children(node, at),
                _ => self.unknown("an empty statement"),
            },
            "AlterTableCmd" => self.alter_table(node),
            "CallStmt" => self.procedure(node),
            "CopyStmt" => self.copy(node),
            "CreateSchemaStmt" => self.create_schema(node),
            "CreateTrigStmt" => self.create_trigger(node),
            "DeclareCursorStmt" | "ExplainStmt" | "PrepareStmt" => self.children(node, at),
            "ExecuteStmt" => {
                self.unknown("EXECUTE of a statement that the gate did not see prepared");
                self.children(node, at);
            }
            "FetchStmt" => self.unknown("FETCH of a cursor that the gate did not see declared"),
            "GrantStmt" => self.grant(node),
            "ListenStmt" | "NotifyStmt" => {
                let channel = self.text(node, "conditionname");
                self.on(Verb::SqlNotify, &names::path("channel", channel));
            }
            "TransactionStmt" => self.transaction(node),
            "VariableSetStmt" => self.set(node),
            "VariableShowStmt" => self.show(node),
            _ => return self.object_statement(node) || self.tabled(node),
        }
        true
    }

    /// The kinds that the tables above describe.
    fn tabled(&mut self, node: &Node) -> bool {
        if let Some(verb) = on_session(node.name) {
            self.on_service(verb);
            return true;
        }
        let mut known = false;
        if brings_code(node.name) {
            self.on(Verb::SqlProcedural, SERVER);
        }
        if let Some((field, kind)) = on_named(node.name) {
            known = true;
            let tree = self.field(node, field);
            let parts = self.object_name(tree);
            self.on_name(Verb::SqlDdl, &parts, kind);
            self.children(node, At::statement(Verb::SqlDdl));
        } else if let Some(verb) = on_server(node.name) {
            known = true;
            self.on(verb, SERVER);
            self.children(node, At::statement(Verb::SqlDdl));
        } else if let Some(verb) = on_relations(node.name) {
            known = true;
            let before = self.found();
            self.children(node, At::statement(verb));
            if self.found() == before {
                self.on(verb, SERVER);
            }
        }
        known
    }

    fn transaction(&mut self, node: &Node) {
        use TransactionStmtKind as Is;
        let kind = self.int(node, "kind");
        match i32::try_from(kind).map(Is::try_from) {
            Ok(Ok(
                Is::TransStmtBegin
                | Is::TransStmtStart
                | Is::TransStmtCommit
                | Is::TransStmtRollback
                | Is::TransStmtSavepoint
                | Is::TransStmtRelease
                | Is::TransStmtRollbackTo,
            )) => self.on_service(Verb::SqlTx),
            Ok(Ok(
                Is::TransStmtPrepare | Is::TransStmtCommitPrepared | Is::TransStmtRollbackPrepared,
            )) => self.on(Verb::SqlAdmin, SERVER),
            _ => self.unknown("a transaction statement that the gate does not know"),
        }
    }

    fn copy(&mut self, node: &Node) {
        let into_table = self.flag(node, "is_from");
        let on_the_server =
            self.flag(node, "is_program") || !self.text(node, "filename").is_empty();
        if on_the_server {
            self.on(Verb::SqlUnsafeIo, SERVER);
        }
        let relation = self.field(node, "relation");
        if into_table {
            self.tree(relation, At::statement(Verb::SqlInsert));
            if !on_the_server {
                self.tree(relation, At::statement(Verb::SqlCopyIn));
            }
            return self.children_but(node, &["relation"], At::statement(Verb::SqlSelect));
        }
        let before = self.reads.len();
        self.children(node, At::statement(Verb::SqlSelect));
        if on_the_server {
            return;
        }
        let reads: Vec<_> = self.reads.iter().skip(before).cloned().collect();
        if reads.iter().all(|read| read.open) {
            self.on_service(Verb::SqlCopyOut);
        }
        for read in reads.iter().filter(|read| !read.open) {
            self.on(Verb::SqlCopyOut, &read.path);
        }
    }

    /// One change to a table; who owns it and whether its policies hold are rights.
    fn alter_table(&mut self, node: &Node) {
        use AlterTableType as Is;
        let kind = self.int(node, "subtype");
        match i32::try_from(kind).map(Is::try_from) {
            Ok(Ok(
                Is::AtChangeOwner
                | Is::AtEnableRowSecurity
                | Is::AtDisableRowSecurity
                | Is::AtForceRowSecurity
                | Is::AtNoForceRowSecurity,
            )) => self.on(Verb::SqlPrivilege, SERVER),
            Ok(Ok(_)) => {}
            _ => self.unknown("a change to a table that the gate does not know"),
        }
        self.children(node, At::statement(Verb::SqlDdl));
    }

    fn create_schema(&mut self, node: &Node) {
        let schema = self.text(node, "schemaname");
        if schema.is_empty() {
            self.unknown("a schema that is named after a role");
        } else {
            self.on(Verb::SqlDdl, &super::query::schema_path(schema));
        }
        if !self.field(node, "schema_elts").items().is_empty() {
            self.unknown("statements inside CREATE SCHEMA are read with another search path");
        }
    }

    /// The trigger's function will run in everybody's statements.
    fn create_trigger(&mut self, node: &Node) {
        let function = self.field(node, "funcname");
        let parts = self.parts(function);
        self.on_name(Verb::SqlCall, &parts, Kind::Function);
        self.children(node, At::statement(Verb::SqlDdl));
    }
}
