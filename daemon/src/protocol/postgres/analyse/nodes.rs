//! Which nodes of the parse tree need no rule of their own.
//!
//! An allow-list: a node that is neither here nor has a rule is `sql.unknown`, so a construct
//! that a newer grammar brings is refused until somebody has looked at it.

/// Sorted.
const PLAIN: &[&str] = &[
    "AArrayExpr",
    "AConst",
    "AIndices",
    "AIndirection",
    "AStar",
    "AccessPriv",
    "Alias",
    "AtAlterConstraint",
    "BitString",
    "BoolExpr",
    "Boolean",
    "BooleanTest",
    "CaseExpr",
    "CaseWhen",
    "CoalesceExpr",
    "CollateClause",
    "ColumnDef",
    "ColumnRef",
    "Constraint",
    "CreateOpClassItem",
    "CteCycleClause",
    "CteSearchClause",
    "CurrentOfExpr",
    "DefElem",
    "Float",
    "FunctionParameter",
    "GroupingFunc",
    "GroupingSet",
    "IndexElem",
    "InferClause",
    "Integer",
    "IntoClause",
    "JoinExpr",
    "JsonAggConstructor",
    "JsonArgument",
    "JsonArrayQueryConstructor",
    "JsonBehavior",
    "JsonFormat",
    "JsonIsPredicate",
    "JsonKeyValue",
    "JsonObjectAgg",
    "JsonObjectConstructor",
    "JsonOutput",
    "JsonReturning",
    "JsonTable",
    "JsonTableColumn",
    "JsonTablePathSpec",
    "JsonValueExpr",
    "List",
    "MergeWhenClause",
    "MinMaxExpr",
    "MultiAssignRef",
    "NamedArgExpr",
    "NullTest",
    "ObjectWithArgs",
    "OnConflictClause",
    "ParamRef",
    "PartitionBoundSpec",
    "PartitionCmd",
    "PartitionElem",
    "PartitionRangeDatum",
    "PartitionSpec",
    "PublicationObjSpec",
    "PublicationTable",
    "RangeFunction",
    "RangeSubselect",
    "RangeTableFunc",
    "RangeTableFuncCol",
    "ReplicaIdentityStmt",
    "ResTarget",
    "ReturnStmt",
    "ReturningClause",
    "ReturningOption",
    "RoleSpec",
    "RowExpr",
    "SetToDefault",
    "SqlValueFunction",
    "StatsElem",
    "String",
    "TableLikeClause",
    "TriggerTransition",
    "TypeCast",
    "TypeName",
    "VacuumRelation",
    "WindowDef",
    "XmlExpr",
    "XmlSerialize",
];

const HOLES: &[(&str, &str)] = &[
    ("DefineStmt", "args"),
    ("List", "items"),
    ("ObjectWithArgs", "objargs"),
    ("ObjectWithArgs", "objfuncargs"),
    ("SelectStmt", "distinct_clause"),
];

/// A node with no meaning of its own: its children say it all.
pub(super) fn is_plain(node: &str) -> bool {
    PLAIN.binary_search(&node).is_ok()
}

/// A list in which the parser means something by NULL.
pub(super) fn has_holes(node: &str, field: &str) -> bool {
    HOLES.contains(&(node, field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(PLAIN.is_sorted());
    }

    /// These take tables, run code or change something: a rule each, never plain.
    #[test]
    fn what_needs_a_rule_is_not_plain() {
        for node in [
            "RangeVar",
            "FuncCall",
            "SelectStmt",
            "AExpr",
            "SubLink",
            "WithClause",
            "CommonTableExpr",
            "LockingClause",
            "RangeTableSample",
        ] {
            assert!(!is_plain(node), "{node}");
        }
        assert_eq!(
            PLAIN.iter().filter(|node| node.ends_with("Stmt")).count(),
            2
        );
    }
}
