//! The corpus, and texts that try to break the analyser.

use super::*;
use crate::policy::Object;

fn analysed(text: &str) -> Operation {
    let path = ["public".to_owned()];
    analyse(text, &Context { search_path: &path })
}

fn effects(text: &str) -> String {
    let effects = analysed(text).effects;
    effects
        .iter()
        .map(Effect::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// `(text, effects)` of corpus.txt.
fn corpus() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut text = String::new();
    for line in include_str!("corpus.txt").lines() {
        if let Some(expected) = line.strip_prefix("=>") {
            found.push((text.trim().to_owned(), expected.trim().to_owned()));
            text.clear();
        } else if !line.starts_with("# ") {
            text.push_str(line);
            text.push('\n');
        }
    }
    found
}

#[test]
fn each_text_of_the_corpus_has_its_effects() {
    let corpus = corpus();
    assert!(corpus.len() >= 200, "{}", corpus.len());
    let mut wrong = String::new();
    for (text, expected) in &corpus {
        let found = effects(text);
        if found != *expected {
            wrong.push_str(&format!(
                "{text}\n  expected {expected}\n  found    {found}\n"
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// What must end in a refusal, and must not end the process.
fn refused(text: &str, why: &str) {
    let operation = analysed(text);
    assert_eq!(operation.effects, [unknown()]);
    let problem = operation.problem.unwrap_or_default();
    assert!(problem.contains(why), "{problem}");
    assert_eq!(operation.fingerprint.len(), 16);
}

#[test]
fn an_unknown_effect_and_a_problem_come_together() {
    for (text, _) in corpus() {
        let operation = analysed(&text);
        assert_eq!(
            operation.effects.contains(&unknown()),
            operation.problem.is_some(),
            "{text}"
        );
        assert_eq!(*operation.text, *text);
    }
}

#[test]
fn nesting_deeper_than_the_parser_can_take_is_refused() {
    let nested = |open: &str, close: &str, depth: usize| {
        format!("SELECT {}1{}", open.repeat(depth), close.repeat(depth))
    };
    for depth in [10_000, 200_000] {
        refused(&nested("(", ")", depth), "");
        refused(&nested("(SELECT ", ")", depth), "");
        refused(&nested("f(", ")", depth), "");
        refused(&nested("NOT ", "", depth), "");
        refused(&nested("1+", "", depth), "");
        refused(&nested("", "::int", depth), "");
        refused(&nested("", " UNION SELECT 1", depth / 10), "");
        refused(&nested("", "::int", depth), "");
        refused(&nested("", "[1]", depth), "");
        refused(&nested("ARRAY[", "]", depth), "");
        refused(&nested("CASE WHEN ", " THEN 1 END", depth / 10), "");
    }
}

#[test]
fn nesting_that_people_write_is_read() {
    let sum = format!("SELECT {} FROM t", ["a"; 40].join(" || "));
    assert_eq!(effects(&sum), "sql.select public.t");
    let conditions = format!("SELECT 1 FROM t WHERE {}", ["a = 1"; 5000].join(" OR "));
    assert_eq!(effects(&conditions), "sql.select public.t");
    let queries = format!("{}1{}", "SELECT (".repeat(12), ")".repeat(12));
    assert_eq!(effects(&queries), "");
}

#[test]
fn long_lists_are_read_up_to_a_limit() {
    let list = |length| {
        format!(
            "SELECT * FROM t WHERE a IN ({})",
            vec!["1"; length].join(",")
        )
    };
    assert_eq!(effects(&list(20_000)), "sql.select public.t");
    refused(&list(100_000), "more than 50000 words");
    let rows = format!("INSERT INTO t VALUES {}", ["(1,'x')"; 8_000].join(","));
    assert_eq!(effects(&rows), "sql.insert public.t");
    let statements = "SELECT 1;".repeat(10_000) + "DELETE FROM t";
    assert_eq!(effects(&statements), "sql.delete public.t");
    let literal = format!("SELECT '{}'; DELETE FROM t", "a,".repeat(500_000));
    assert_eq!(effects(&literal), "sql.delete public.t");
}

#[test]
fn long_texts_are_refused_unread() {
    let comment = format!("/*{}*/ DELETE FROM t", " ".repeat(9 << 20));
    refused(&comment, "longer than 1048576 bytes");
    let short = format!("/*{}*/ DELETE FROM t", " ".repeat(MAX_TEXT - 100));
    assert_eq!(effects(&short), "sql.delete public.t");
}

#[test]
fn bytes_that_the_server_would_not_take_are_refused() {
    refused("SELECT 1\0; DELETE FROM t", "");
    refused("SELECT 1; DELETE FROM t\0", "");
}

#[test]
fn names_are_cut_where_the_server_cuts_them() {
    let long = "x".repeat(70);
    let cut = format!("sql.select public.{}", "x".repeat(63));
    assert_eq!(effects(&format!("SELECT * FROM {long}")), cut);
    assert_eq!(effects(&format!("SELECT * FROM \"{long}\"")), cut);
    let hidden = format!(
        "WITH {}y AS (SELECT 1) SELECT * FROM {long}",
        "x".repeat(63)
    );
    assert_eq!(effects(&hidden), "");
    let wide = "é".repeat(40);
    let cut = format!("sql.select public.\"{}\"", "é".repeat(31));
    assert_eq!(effects(&format!("SELECT * FROM \"{wide}\"")), cut);
}

#[test]
fn every_schema_of_the_search_path_has_to_be_covered() {
    let path = ["app".to_owned(), "public".to_owned()];
    let operation = analyse(
        "DELETE FROM t; SELECT f(1), lower('x')",
        &Context { search_path: &path },
    );
    let found: Vec<_> = operation.effects.iter().map(Effect::to_string).collect();
    let expected = [
        "sql.delete app.t",
        "sql.delete public.t",
        "sql.call app.f",
        "sql.call public.f",
    ];
    assert_eq!(found, expected);
    let late = ["public".to_owned(), "pg_catalog".to_owned()];
    let operation = analyse(
        "SELECT lower(relname) FROM pg_class",
        &Context { search_path: &late },
    );
    let found: Vec<_> = operation.effects.iter().map(Effect::to_string).collect();
    assert_eq!(
        found,
        [
            "sql.select",
            "sql.select public.pg_class",
            "sql.call public.lower"
        ]
    );
    let operation = analyse("SELECT * FROM t", &Context { search_path: &[] });
    assert_eq!(operation.effects, [unknown()]);
}

#[test]
fn constants_leave_the_fingerprint_alone() {
    let one = analysed("SELECT * FROM t WHERE id = 1");
    assert_eq!(
        one.fingerprint,
        analysed("select * from t where id = 22").fingerprint
    );
    assert_ne!(
        one.fingerprint,
        analysed("SELECT * FROM t WHERE name = 1").fingerprint
    );
}

#[test]
fn texts_parse_in_many_threads_at_once() {
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..200 {
                    assert_eq!(effects("DELETE FROM t WHERE"), "sql.unknown statement");
                    assert_eq!(effects("DELETE FROM t"), "sql.delete public.t");
                }
            });
        }
    });
}

#[test]
fn what_clients_ask_of_the_catalog_needs_no_rule_on_a_table() {
    let texts = include_str!("clients.txt")
        .lines()
        .filter(|line| !line.starts_with("# "));
    let mut count = 0;
    for text in texts {
        count += 1;
        let on_paths: Vec<_> = analysed(text)
            .effects
            .into_iter()
            .filter(|effect| effect.object != Object::Service)
            .collect();
        assert!(on_paths.is_empty(), "{text}: {on_paths:?}");
    }
    assert!(count > 100, "{count}");
}

/// What a future grammar may bring: nothing of it may pass in silence.
#[test]
fn a_tree_that_no_rule_was_written_for_is_unknown() {
    let empty = pg_query::protobuf::Node { node: None };
    assert_eq!(Tree::of(&empty), Ok(Tree::Hole));
    let node = |name| {
        Tree::Node(Box::new(tree::Node {
            name,
            fields: Vec::new(),
        }))
    };
    for tree in [
        Tree::Hole,
        node("NewStmt"),
        node("SelectStmt"),
        node("RangeVar"),
        node("SetStmt"),
    ] {
        let context = Context { search_path: &[] };
        let mut walker = Walker::new(&context);
        walker.tree(
            &Tree::List(vec![tree.clone()]),
            At::statement(Verb::SqlSelect),
        );
        let (effects, problem) = walker.finish();
        assert!(
            effects.contains(&unknown()) && problem.is_some(),
            "{tree:?}"
        );
    }
}
