//! psql through the gate: what is allowed, what is refused, what the agent is told.

use portcullis_tests::audit::{self, text};

use crate::stage::Stage;

#[test]
fn an_allowed_select_gives_its_rows_and_a_full_record() {
    let stage = Stage::new();
    let done = stage.psql("SELECT id FROM orders WHERE id <= 3 ORDER BY id");
    assert_eq!(
        (done.code(), done.stdout.as_str()),
        (0, "1\n2\n3\n"),
        "{}",
        done.stderr
    );

    let decision = stage.daemon.decision("WHERE id <= 3").expect("decision");
    for (field, value) in [
        ("decision", "allow"),
        ("principal", "analyst"),
        ("service", "shop"),
        ("database", "shop"),
        ("uid", "0"),
    ] {
        assert_eq!(text(&decision, field), value, "{field} of {decision}");
    }
    for field in [
        "time",
        "session",
        "cgroup",
        "pid",
        "connection",
        "request",
        "fingerprint",
    ] {
        assert!(!text(&decision, field).is_empty(), "{field} of {decision}");
    }
    assert!(decision.to_string().contains("read-tables"), "{decision}");
    assert!(
        text(&decision, "effects").contains("public.orders"),
        "{decision}"
    );

    let request = text(&decision, "request");
    let outcome = stage
        .daemon
        .audit_line("the outcome", |line| {
            audit::is(line, "outcome") && text(line, "request") == request
        })
        .expect("outcome");
    assert_eq!(text(&outcome, "rows"), "3", "{outcome}");
    for field in ["bytes", "duration_us"] {
        assert!(
            text(&outcome, field).parse::<u64>().expect("a number") > 0,
            "{outcome}"
        );
    }
}

#[test]
fn a_denied_delete_names_its_rule_and_the_session_goes_on() {
    let stage = Stage::new();
    let mut psql = stage.open_psql();
    let refused = psql
        .query("DELETE FROM customers WHERE id = 1")
        .expect("answer");
    assert!(refused.contains("ERROR:  42501: "), "{refused}");
    let message = "sql.delete on shop/public.customers is denied by rule no-writes";
    assert!(refused.contains(message), "{refused}");
    assert!(refused.contains("HINT:"), "{refused}");

    let decision = stage
        .daemon
        .decision("DELETE FROM customers")
        .expect("decision");
    let detail = refused
        .lines()
        .find(|line| line.starts_with("DETAIL:"))
        .expect("a DETAIL");
    assert!(
        detail.contains(&text(&decision, "request")),
        "{detail} / {decision}"
    );
    let rule = decision.pointer("/rules/0").expect("rule");
    assert_eq!(text(rule, "id"), "no-writes");
    assert!(text(rule, "file").ends_with("policy.yaml"), "{rule}");
    assert!(
        text(rule, "line").parse::<u32>().expect("line") > 1,
        "{rule}"
    );

    assert_eq!(
        psql.query("SELECT count(*) FROM customers")
            .expect("goes on")
            .trim(),
        "200"
    );
    assert_eq!(stage.fact("SELECT count(*) FROM customers"), "200");
}

#[test]
fn nothing_of_a_message_runs_when_one_statement_is_denied() {
    let stage = Stage::new();
    let done = stage.psql("INSERT INTO staging VALUES (1, 'first'); DROP TABLE customers");
    assert_ne!(done.code(), 0);
    assert!(done.stderr.contains("sql.ddl"), "{}", done.stderr);
    assert_eq!(stage.fact("SELECT count(*) FROM staging"), "0");
    assert_eq!(stage.fact("SELECT count(*) FROM customers"), "200");
}

/// Each with a verb that the record must name among the effects.
const REFUSED: &[(&str, &str)] = &[
    (
        "WITH d AS (DELETE FROM customers RETURNING *) SELECT count(*) FROM d",
        "sql.delete",
    ),
    ("UPDATE orders SET paid = true", "sql.update"),
    ("UPDATE orders SET paid = true WHERE id = 7", "sql.update"),
    ("TRUNCATE orders", "sql.truncate"),
    ("DROP/**/TABLE staging", "sql.ddl"),
    ("EXPLAIN ANALYZE DELETE FROM customers", "sql.delete"),
    (
        "MERGE INTO orders o USING staging s ON o.id = s.id WHEN MATCHED THEN DELETE",
        "sql.delete",
    ),
    ("SELECT * FROM hr.pay", "sql.select"),
    ("SELECT * FROM public.orders, \"hr\".\"pay\"", "sql.select"),
    (
        "INSERT INTO staging SELECT salary, employee FROM hr.pay",
        "sql.select",
    ),
    (
        "SELECT id FROM orders WHERE EXISTS (TABLE billing.invoices)",
        "sql.select",
    ),
    ("SELECT purge()", "sql.call"),
    (
        "DO $$ BEGIN DELETE FROM customers; END $$",
        "sql.procedural",
    ),
    ("COPY orders TO PROGRAM 'cat >/dev/null'", "sql.unsafe_io"),
    ("GRANT ALL ON customers TO PUBLIC", "sql.privilege"),
    ("SET ROLE postgres", "sql.privilege"),
    ("EXECUTE unseen", "sql.unknown"),
];

#[test]
fn what_a_reader_may_not_do_is_refused_and_changes_nothing() {
    let stage = Stage::new();
    let state = "SELECT (SELECT count(*) FROM customers), (SELECT count(*) FROM staging), \
                 (SELECT count(*) FROM orders), (SELECT count(*) FROM orders WHERE paid)";
    let before = stage.fact(state);
    let mut psql = stage.open_psql();
    for (sql, verb) in REFUSED {
        let answer = psql.query(sql).expect(sql);
        assert!(answer.contains("ERROR:  42501: "), "{sql}: {answer}");
        let decision = stage.daemon.decision(sql).expect(sql);
        assert_eq!(text(&decision, "decision"), "deny", "{sql}: {decision}");
        assert!(
            text(&decision, "effects").contains(verb),
            "{sql}: {decision}"
        );
    }
    assert_eq!(psql.query("SELECT 1").expect("goes on").trim(), "1");
    assert_eq!(stage.fact(state), before);
}

#[test]
fn what_only_looks_like_a_write_is_allowed() {
    let stage = Stage::new();
    let mut psql = stage.open_psql();
    for (sql, rows) in [
        ("SELECT 'DROP TABLE customers'", "DROP TABLE customers"),
        ("/* a /* b */ DELETE FROM customers */ SELECT 1", "1"),
        (
            "SELECT count(*) FROM \"public\".\"orders\" -- ; DROP TABLE orders",
            "300",
        ),
        ("SELECT count(*) FROM ONLY orders AS hr", "300"),
    ] {
        assert_eq!(
            psql.query(&format!("{sql}\n")).expect(sql).trim(),
            rows,
            "{sql}"
        );
    }
    let done = psql
        .query("INSERT INTO staging SELECT id, name FROM products")
        .expect("insert");
    assert!(!done.contains("ERROR"), "{done}");
    assert_eq!(stage.fact("SELECT count(*) FROM staging"), "50");
}

#[test]
fn the_table_is_the_one_that_the_server_would_use() {
    let stage = Stage::new();
    stage.fact("CREATE TABLE public.\"Customers\" (x int); GRANT ALL ON \"Customers\" TO agent_ro");
    let mut psql = stage.open_psql();
    for sql in [
        "SELECT * FROM \"Customers\"",
        "SELECT * FROM U&\"\\0043ustomers\"",
        "SET search_path = hr, public; SELECT * FROM pay",
        "SELECT * FROM pay",
    ] {
        let answer = psql.query(&sql.replace("; ", "\\; ")).expect(sql);
        assert!(answer.contains("ERROR:"), "{sql}: {answer}");
        assert!(!answer.contains("employee"), "{sql}: {answer}");
    }
    let lower = psql
        .query("SELECT count(*) FROM U&\"\\0063ustomers\"")
        .expect("lower case");
    assert_eq!(lower.trim(), "200");
}

#[test]
fn backslash_d_works_as_without_the_gate() {
    let stage = Stage::new();
    let mut psql = stage.open_psql();
    let described = psql.query("\\d customers").expect("answer");
    assert!(
        described.contains("email") && !described.contains("ERROR"),
        "{described}"
    );
}
