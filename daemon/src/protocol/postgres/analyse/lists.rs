//! What PostgreSQL brings along: functions, catalog relations, operators, settings.
//!
//! The names come from live servers; each file's head says how. Invariant: what is not on a
//! list gets the stricter answer.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

static SAFE_FUNCTIONS: LazyLock<HashSet<&str>> =
    LazyLock::new(|| names(include_str!("safe_functions.txt")).collect());
static OTHER_FUNCTIONS: LazyLock<HashSet<&str>> =
    LazyLock::new(|| names(include_str!("other_functions.txt")).collect());
static OPERATORS: LazyLock<HashSet<&str>> =
    LazyLock::new(|| names(include_str!("operators.txt")).collect());
/// Qualified name to whether it is open.
static RELATIONS: LazyLock<HashMap<&str, bool>> = LazyLock::new(|| {
    names(include_str!("relations.txt"))
        .filter_map(|line| line.split_once(' '))
        .map(|(kind, name)| (name, kind == "open"))
        .collect()
});

/// The lines of a list. A comment starts with `# `: a bare `#` is an operator.
fn names(file: &'static str) -> impl Iterator<Item = &'static str> {
    file.lines()
        .filter(|line| !line.is_empty() && !line.starts_with("# "))
}

/// A function that has no effect when it is the one of this schema.
pub(super) fn is_safe_function(schema: &str, name: &str) -> bool {
    match schema {
        "pg_catalog" => SAFE_FUNCTIONS.contains(name),
        "information_schema" => SAFE_FUNCTIONS.contains(format!("{schema}.{name}").as_str()),
        _ => false,
    }
}

/// A function of pg_catalog, safe or not.
pub(super) fn is_catalog_function(name: &str) -> bool {
    SAFE_FUNCTIONS.contains(name) || OTHER_FUNCTIONS.contains(name)
}

/// An operator of pg_catalog.
pub(super) fn is_catalog_operator(name: &str) -> bool {
    OPERATORS.contains(name)
}

/// A table or view of pg_catalog.
pub(super) fn is_catalog_relation(name: &str) -> bool {
    RELATIONS.contains_key(format!("pg_catalog.{name}").as_str())
}

/// A catalog relation that every user may read.
pub(super) fn is_open_relation(schema: &str, name: &str) -> bool {
    matches!(schema, "pg_catalog" | "information_schema")
        && RELATIONS
            .get(format!("{schema}.{name}").as_str())
            .copied()
            .unwrap_or(false)
}

/// Settings that change how values are written or how long things may take, and nothing
/// about whose data is read or how a text is understood. In lower case, sorted.
const SAFE_SETTINGS: &[&str] = &[
    "application_name",
    "array_nulls",
    "bytea_output",
    "client_min_messages",
    "constraint_exclusion",
    "cpu_index_tuple_cost",
    "cpu_operator_cost",
    "cpu_tuple_cost",
    "cursor_tuple_fraction",
    "datestyle",
    "default_statistics_target",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "effective_cache_size",
    "enable_bitmapscan",
    "enable_gathermerge",
    "enable_hashagg",
    "enable_hashjoin",
    "enable_incremental_sort",
    "enable_indexonlyscan",
    "enable_indexscan",
    "enable_material",
    "enable_memoize",
    "enable_mergejoin",
    "enable_nestloop",
    "enable_parallel_append",
    "enable_parallel_hash",
    "enable_partition_pruning",
    "enable_partitionwise_aggregate",
    "enable_partitionwise_join",
    "enable_seqscan",
    "enable_sort",
    "enable_tidscan",
    "extra_float_digits",
    "from_collapse_limit",
    "geqo",
    "geqo_threshold",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "join_collapse_limit",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lock_timeout",
    "max_parallel_workers_per_gather",
    "parallel_setup_cost",
    "parallel_tuple_cost",
    "plan_cache_mode",
    "quote_all_identifiers",
    "random_page_cost",
    "seq_page_cost",
    "statement_timeout",
    "timezone",
    "transaction_deferrable",
    "transaction_isolation",
    "transaction_read_only",
    "transaction_timeout",
    "work_mem",
    "xmlbinary",
    "xmloption",
];

/// Further settings that anybody may look at. Sorted.
const READABLE_SETTINGS: &[&str] = &[
    "block_size",
    "client_encoding",
    "default_table_access_method",
    "default_text_search_config",
    "integer_datetimes",
    "is_superuser",
    "lc_collate",
    "lc_ctype",
    "lc_messages",
    "max_identifier_length",
    "max_index_keys",
    "search_path",
    "server_encoding",
    "server_version",
    "server_version_num",
    "session_authorization",
    "standard_conforming_strings",
];

/// A setting that may be changed; `name` in lower case.
pub(in crate::protocol::postgres) fn is_safe_setting(name: &str) -> bool {
    SAFE_SETTINGS.binary_search(&name).is_ok()
}

/// A setting that may be shown; `name` in lower case.
pub(super) fn is_readable_setting(name: &str) -> bool {
    is_safe_setting(name) || READABLE_SETTINGS.binary_search(&name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_and_read() {
        assert!(SAFE_SETTINGS.is_sorted());
        assert!(READABLE_SETTINGS.is_sorted());
        assert!(is_catalog_operator("#") && is_catalog_operator("->>"));
        assert!(is_open_relation("pg_catalog", "pg_class"));
        assert!(is_catalog_relation("pg_authid") && !is_open_relation("pg_catalog", "pg_authid"));
        assert!(!is_open_relation("public", "pg_class"));
    }

    #[test]
    fn what_reads_files_tables_or_runs_sql_is_not_safe() {
        for name in [
            "nextval",
            "setval",
            "set_config",
            "current_setting",
            "pg_notify",
            "pg_sleep",
            "pg_read_file",
            "lo_import",
            "lo_get",
            "query_to_xml",
            "table_to_xml",
            "cursor_to_xml",
            "ts_stat",
            "ts_rewrite",
            "pg_terminate_backend",
            "txid_current",
            "pg_stat_get_activity",
            "pg_ls_dir",
            "pg_advisory_lock",
            "pg_logical_emit_message",
            "pg_reload_conf",
            "pg_mcv_list_items",
            "pg_show_all_settings",
            "pg_export_snapshot",
        ] {
            assert!(is_catalog_function(name), "{name} is not known");
            assert!(!is_safe_function("pg_catalog", name), "{name}");
        }
    }

    #[test]
    fn no_function_is_on_both_lists() {
        assert!(SAFE_FUNCTIONS.is_disjoint(&OTHER_FUNCTIONS));
    }
}
