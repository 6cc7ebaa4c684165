//! What runs code: functions, procedures, operators, sampling methods.
//!
//! A call is an effect unless the function is a safe built-in and can only be that one.
//! Absent on purpose: types. A cast may run code that whoever made the type, domain or cast
//! chose; so may a trigger, a default, a view or a policy on a table. All of these are made
//! by the database's owners, who made them part of what the permitted verb does.

use pg_query::protobuf::{AExprKind, JsonExprOp};

use super::lists;
use super::names::Kind;
use super::settings;
use super::tree::{Node, Tree};
use super::walk::{At, Walker};
use crate::policy::Verb;

impl Walker<'_> {
    /// Judges a node that runs code; false when it is of another kind.
    pub(super) fn call(&mut self, node: &Node, at: At<'_>) -> bool {
        match node.name {
            "FuncCall" => self.function(node),
            "AExpr" if self.compares_access_method(node, at) => return true,
            "AExpr" => self.expression(node),
            "SubLink" => self.optional_operator(node, "oper_name"),
            "SortBy" => self.optional_operator(node, "use_op"),
            "RangeTableSample" => {
                let method = self.field(node, "method");
                let parts = self.parts(method);
                if !matches!(
                    *parts,
                    ["system" | "bernoulli"] | ["pg_catalog", "system" | "bernoulli"]
                ) {
                    self.on_name(Verb::SqlCall, &parts, Kind::Function);
                }
            }
            // Keywords of newer versions, ordinary functions for PostgreSQL 15 and before.
            "JsonArrayAgg" => self.newer_function("json_arrayagg"),
            "JsonArrayConstructor" => self.newer_function("json_array"),
            "JsonParseExpr" => self.newer_function("json"),
            "JsonScalarExpr" => self.newer_function("json_scalar"),
            "JsonSerializeExpr" => self.newer_function("json_serialize"),
            "MergeSupportFunc" => self.newer_function("merge_action"),
            "JsonFuncExpr" => {
                let operation = self.int(node, "op");
                match i32::try_from(operation).map(JsonExprOp::try_from) {
                    Ok(Ok(JsonExprOp::JsonExistsOp)) => self.newer_function("json_exists"),
                    Ok(Ok(JsonExprOp::JsonQueryOp)) => self.newer_function("json_query"),
                    Ok(Ok(JsonExprOp::JsonValueOp)) => self.newer_function("json_value"),
                    _ => self.unknown("an SQL/JSON function that the gate does not know"),
                }
            }
            _ => return false,
        }
        self.children(node, at);
        true
    }

    fn newer_function(&mut self, name: &str) {
        self.on_name(Verb::SqlCall, &[name], Kind::Function);
    }

    fn function(&mut self, node: &Node) {
        let name = self.field(node, "funcname");
        let parts = self.parts(name);
        let arguments = self.field(node, "args").items();
        for found in self.resolve(&parts, Kind::Function) {
            if lists::is_safe_function(found.schema, found.name) {
                continue;
            }
            let setting = arguments.first().and_then(Tree::string);
            let in_catalog = found.schema == "pg_catalog";
            if in_catalog
                && let Some(setting) = setting
                && self.setting_function(found.name, setting)
            {
                continue;
            }
            // A view may hide the call, and then nothing is said of it when it runs.
            if in_catalog && found.name == "set_config" && setting.is_none_or(settings::is_read_by)
            {
                self.unknown("set_config changes how texts are read or names looked up");
            }
            self.on(Verb::SqlCall, &found.path());
        }
    }

    /// `set_config` and `current_setting` of a harmless setting are SET and SHOW.
    fn setting_function(&mut self, function: &str, setting: &str) -> bool {
        let setting = setting.to_ascii_lowercase();
        let harmless = match function {
            "set_config" => lists::is_safe_setting(&setting),
            "current_setting" => lists::is_readable_setting(&setting),
            _ => false,
        };
        if harmless {
            self.on_service(Verb::SqlSession);
        }
        harmless
    }

    /// `CALL`: a procedure is an effect whatever its name.
    pub(super) fn procedure(&mut self, node: &Node) {
        match self
            .field(node, "funccall")
            .node()
            .filter(|call| call.name == "FuncCall")
        {
            Some(call) => {
                let name = self.field(call, "funcname");
                let parts = self.parts(name);
                self.on_name(Verb::SqlCall, &parts, Kind::Function);
                self.children(call, At::statement(Verb::SqlSelect));
            }
            None => self.unknown("CALL of nothing"),
        }
    }

    fn expression(&mut self, node: &Node) {
        let kind = self.int(node, "kind");
        // BETWEEN carries its own keyword as a name.
        let between = AExprKind::AexprBetween as i64..=AExprKind::AexprBetweenSym as i64 + 1;
        if !between.contains(&kind) {
            let name = self.field(node, "name");
            self.operator(name);
        }
    }

    fn optional_operator(&mut self, node: &Node, field: &str) {
        let name = self.field(node, field);
        if !name.items().is_empty() {
            self.operator(name);
        }
    }

    fn operator(&mut self, name: &Tree) {
        let parts = self.parts(name);
        for found in self.resolve(&parts, Kind::Operator) {
            if found.schema != "pg_catalog" || !lists::is_catalog_operator(found.name) {
                self.on(Verb::SqlCall, &found.path());
            }
        }
    }
}
