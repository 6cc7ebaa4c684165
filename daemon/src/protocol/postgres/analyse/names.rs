//! From a name in a statement to the objects that the server may take it for.
//!
//! Invariant: the answer holds every schema in which the server could find the name, in the
//! pinned search path with pg_catalog first, as the server puts it there itself.

use super::lists;

/// Longest identifier that the server keeps, in bytes (NAMEDATALEN - 1).
const MAX_NAME: usize = 63;

/// What kind of object a name stands for; each has its own name space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Table, view, index, sequence.
    Relation,
    /// Function or procedure.
    Function,
    /// Operator.
    Operator,
    /// Type, domain, collation, ...: pg_catalog's own are not listed here.
    Other,
}

/// An object of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name<'a> {
    pub(super) schema: &'a str,
    pub(super) name: &'a str,
}

impl Name<'_> {
    /// `schema.name`, each part quoted where SQL would need it.
    pub(super) fn path(&self) -> String {
        let mut path = String::with_capacity(self.schema.len() + self.name.len() + 1);
        push_part(&mut path, self.schema);
        path.push('.');
        push_part(&mut path, self.name);
        path
    }
}

/// `schema.name` with the parts quoted where needed.
pub(super) fn path(schema: &str, name: &str) -> String {
    Name { schema, name }.path()
}

fn push_part(path: &mut String, part: &str) {
    let mut bytes = part.bytes();
    let plain = bytes
        .next()
        .is_some_and(|first| first.is_ascii_lowercase() || first == b'_')
        && bytes.all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'$'
        });
    if plain {
        path.push_str(part);
        return;
    }
    path.push('"');
    for letter in part.chars() {
        if letter == '"' {
            path.push('"');
        }
        path.push(letter);
    }
    path.push('"');
}

/// Why a name stands for nothing that can be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadName {
    /// `database.schema.name`.
    #[error("a name with a database in it")]
    Qualified,
    /// No schema on the search path could have it.
    #[error("a name that no schema of the search path can have")]
    NoSchema,
    /// Empty, or longer than the server keeps.
    #[error("an empty name or one of over 63 bytes")]
    Length,
}

/// Every object that the server may take these parts for.
pub(super) fn resolve<'a>(
    parts: &[&'a str],
    kind: Kind,
    search_path: &'a [String],
) -> Result<Vec<Name<'a>>, BadName> {
    if parts
        .iter()
        .any(|part| part.is_empty() || part.len() > MAX_NAME)
    {
        return Err(BadName::Length);
    }
    match *parts {
        [schema, name] => Ok(vec![Name { schema, name }]),
        [name] => {
            let found: Vec<_> = schemas(name, kind, search_path)
                .map(|schema| Name { schema, name })
                .collect();
            if found.is_empty() {
                Err(BadName::NoSchema)
            } else {
                Ok(found)
            }
        }
        _ => Err(BadName::Qualified),
    }
}

/// The schemas in which the server may find an unqualified name.
fn schemas<'a>(name: &str, kind: Kind, search_path: &'a [String]) -> impl Iterator<Item = &'a str> {
    let implicit = !search_path.iter().any(|schema| schema == "pg_catalog");
    let known = match kind {
        Kind::Relation => lists::is_catalog_relation(name),
        Kind::Function => lists::is_catalog_function(name),
        Kind::Operator => lists::is_catalog_operator(name),
        Kind::Other => false,
    };
    // A newer server may have brought it: what starts with pg_ may be in either place. Where
    // the path is the server's own, the other place is not known.
    let possible = known || (name.starts_with("pg_") && !search_path.is_empty());
    let mut done = false;
    implicit
        .then_some("pg_catalog")
        .into_iter()
        .chain(search_path.iter().map(String::as_str))
        .filter(move |schema| {
            if done || (*schema == "pg_catalog" && !possible) {
                return false;
            }
            done = *schema == "pg_catalog" && known;
            true
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(parts: &[&str], kind: Kind, search_path: &[&str]) -> Vec<String> {
        let search_path: Vec<String> = search_path.iter().map(|schema| (*schema).into()).collect();
        resolve(parts, kind, &search_path)
            .map(|names| names.iter().map(Name::path).collect())
            .unwrap_or_default()
    }

    #[test]
    fn parts_are_quoted_as_sql_quotes_them() {
        for (name, path) in [
            ("customers", "public.customers"),
            ("Customers", "public.\"Customers\""),
            ("a.b", "public.\"a.b\""),
            ("say \"hi\"", "public.\"say \"\"hi\"\"\""),
            ("1st", "public.\"1st\""),
            ("*", "public.\"*\""),
            ("_x$1", "public._x$1"),
        ] {
            assert_eq!(paths(&["public", name], Kind::Relation, &[]), [path]);
        }
    }

    #[test]
    fn unqualified_names_take_every_schema_of_the_path() {
        assert_eq!(
            paths(&["t"], Kind::Relation, &["app", "public"]),
            ["app.t", "public.t"]
        );
        assert_eq!(paths(&["t"], Kind::Relation, &[]), [""; 0]);
        assert_eq!(
            paths(&["a", "b", "c"], Kind::Relation, &["public"]),
            [""; 0]
        );
    }

    #[test]
    fn the_catalog_comes_first_unless_the_path_names_it() {
        assert_eq!(
            paths(&["pg_class"], Kind::Relation, &["public"]),
            ["pg_catalog.pg_class"]
        );
        assert_eq!(
            paths(
                &["pg_class"],
                Kind::Relation,
                &["public", "pg_catalog", "z"]
            ),
            ["public.pg_class", "pg_catalog.pg_class"]
        );
        assert_eq!(
            paths(&["pg_new_thing"], Kind::Relation, &["public"]),
            ["pg_catalog.pg_new_thing", "public.pg_new_thing"]
        );
        // Where the server looks it up as it likes, it may be anybody's.
        assert_eq!(paths(&["pg_new_thing"], Kind::Relation, &[]), [""; 0]);
        assert_eq!(
            paths(&["pg_class"], Kind::Relation, &[]),
            ["pg_catalog.pg_class"]
        );
    }

    #[test]
    fn names_that_the_server_would_cut_are_refused() {
        let long = "x".repeat(64);
        assert_eq!(resolve(&[&long], Kind::Relation, &[]), Err(BadName::Length));
    }
}
