//! What an operation does to an object, and the group names that stand for several verbs.

use std::fmt;

/// One verb, `protocol.verb` in policies and records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Read rows of a table or view.
    SqlSelect,
    /// Add rows.
    SqlInsert,
    /// Change rows.
    SqlUpdate,
    /// Remove rows.
    SqlDelete,
    /// `MERGE`; comes together with the verbs of its `WHEN` arms.
    SqlMerge,
    /// `TRUNCATE`.
    SqlTruncate,
    /// `COPY ... FROM STDIN`; comes together with [`Verb::SqlInsert`].
    SqlCopyIn,
    /// `COPY ... TO STDOUT`; comes together with [`Verb::SqlSelect`].
    SqlCopyOut,
    /// `CREATE`, `ALTER`, `DROP`, `COMMENT`, ...
    SqlDdl,
    /// Run a function that is not on the list of safe built-ins, or a procedure.
    SqlCall,
    /// `LOCK TABLE`, `SELECT ... FOR UPDATE`.
    SqlLock,
    /// `SET`, `SHOW`, `RESET`, `DISCARD`.
    SqlSession,
    /// `BEGIN`, `COMMIT`, `ROLLBACK`, `SAVEPOINT`, ...
    SqlTx,
    /// `VACUUM`, `ANALYZE`, `CHECKPOINT`, `REINDEX`, `CLUSTER`, ...
    SqlAdmin,
    /// Files and programs of the server: `COPY ... FROM '/file'`, `COPY ... PROGRAM`, `LOAD`.
    SqlUnsafeIo,
    /// `DO` and other code that the gate can't read.
    SqlProcedural,
    /// `GRANT`, `REVOKE`, `SET ROLE`, roles and passwords.
    SqlPrivilege,
    /// `LISTEN`, `UNLISTEN`, `NOTIFY`.
    SqlNotify,
    /// Anything that the analyser has no rule for. Only an explicit `sql.unknown` could allow it.
    SqlUnknown,
}

const NAMES: &[(&str, Verb)] = &[
    ("sql.select", Verb::SqlSelect),
    ("sql.insert", Verb::SqlInsert),
    ("sql.update", Verb::SqlUpdate),
    ("sql.delete", Verb::SqlDelete),
    ("sql.merge", Verb::SqlMerge),
    ("sql.truncate", Verb::SqlTruncate),
    ("sql.copy_in", Verb::SqlCopyIn),
    ("sql.copy_out", Verb::SqlCopyOut),
    ("sql.ddl", Verb::SqlDdl),
    ("sql.call", Verb::SqlCall),
    ("sql.lock", Verb::SqlLock),
    ("sql.session", Verb::SqlSession),
    ("sql.tx", Verb::SqlTx),
    ("sql.admin", Verb::SqlAdmin),
    ("sql.unsafe_io", Verb::SqlUnsafeIo),
    ("sql.procedural", Verb::SqlProcedural),
    ("sql.privilege", Verb::SqlPrivilege),
    ("sql.notify", Verb::SqlNotify),
    ("sql.unknown", Verb::SqlUnknown),
];

/// Group names. `sql.*` leaves `sql.unknown` out: that one must be written.
const GROUPS: &[(&str, &[Verb])] = &[
    ("sql.read", &[Verb::SqlSelect, Verb::SqlCopyOut]),
    (
        "sql.write",
        &[
            Verb::SqlInsert,
            Verb::SqlUpdate,
            Verb::SqlDelete,
            Verb::SqlMerge,
            Verb::SqlTruncate,
            Verb::SqlCopyIn,
        ],
    ),
    (
        "sql.*",
        &[
            Verb::SqlSelect,
            Verb::SqlInsert,
            Verb::SqlUpdate,
            Verb::SqlDelete,
            Verb::SqlMerge,
            Verb::SqlTruncate,
            Verb::SqlCopyIn,
            Verb::SqlCopyOut,
            Verb::SqlDdl,
            Verb::SqlCall,
            Verb::SqlLock,
            Verb::SqlSession,
            Verb::SqlTx,
            Verb::SqlAdmin,
            Verb::SqlUnsafeIo,
            Verb::SqlProcedural,
            Verb::SqlPrivilege,
            Verb::SqlNotify,
        ],
    ),
];

impl Verb {
    /// How many verbs there are.
    pub(super) const COUNT: usize = Self::SqlUnknown as usize + 1;

    /// `protocol.verb`.
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(_, verb)| *verb == self)
            .map_or("sql.unknown", |(name, _)| name)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A verb or group that no protocol has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownVerb {
    /// The nearest name that there is.
    pub suggestion: &'static str,
}

/// The verbs that a name in a policy stands for: itself, or a group's members.
pub fn expand_verb(name: &str) -> Result<Vec<Verb>, UnknownVerb> {
    if let Some((_, verb)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(vec![*verb]);
    }
    if let Some((_, verbs)) = GROUPS.iter().find(|(known, _)| *known == name) {
        return Ok(verbs.to_vec());
    }
    let known = NAMES.iter().map(|(known, _)| *known);
    let groups = GROUPS.iter().map(|(known, _)| *known);
    let suggestion = known
        .chain(groups)
        .min_by_key(|known| strsim::damerau_levenshtein(known, name))
        .unwrap_or("sql.select");
    Err(UnknownVerb { suggestion })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verb_has_its_own_name() {
        for (name, verb) in NAMES {
            assert_eq!(verb.name(), *name);
        }
    }

    #[test]
    fn no_group_contains_unknown() {
        for (group, verbs) in GROUPS {
            assert!(!verbs.contains(&Verb::SqlUnknown), "{group}");
        }
    }

    #[test]
    fn a_typo_gets_the_nearest_name() {
        assert_eq!(
            expand_verb("sql.selct"),
            Err(UnknownVerb {
                suggestion: "sql.select"
            })
        );
    }
}
