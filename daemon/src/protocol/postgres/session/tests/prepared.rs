//! Statements and cursors that are named first and run later.

use super::*;

#[test]
fn execute_is_judged_by_what_the_server_would_run() {
    let mut bench = Bench::new();
    let good = [parse("s", GOOD), sync()].concat();
    assert_eq!(bench.agent(&good), good);
    // The server's answer is out: `s` may or may not exist. A second Parse and all that
    // builds on it must wait for it.
    let second = [
        parse("s", "SELECT 1 FROM orders"),
        bind("", "s"),
        execute(""),
        sync(),
    ]
    .concat();
    assert_eq!(bench.agent(&second), b"");
    // The first one failed: now `s` is what the second Parse says.
    bench.upstream(&[server_error("42P01", "no table"), ready(b'I')].concat());
    assert_eq!(bench.io.to_upstream.split(), second);
    let last = bench.asked.last().expect("asked");
    assert_eq!(&*last.operation.text, "SELECT 1 FROM orders");
}

#[test]
fn a_portal_of_an_unknown_statement_cannot_be_executed() {
    let mut bench = Bench::new();
    let up = bench.agent(&[bind("p", "made_in_sql"), execute("p"), sync()].concat());
    let question = bench.asked.last().expect("asked");
    assert!(question.operation.problem.is_some());
    assert!(
        contains(&up, "portcullis_denied_"),
        "the Execute became a decoy"
    );
}

#[test]
fn execute_in_sql_is_judged_by_what_was_prepared_in_sql() {
    let mut bench = Bench::new();
    let refused = |bench: &mut Bench, text: &str| {
        let up = bench.agent(&query(text));
        assert!(contains(&up, "portcullis_denied_"), "{text}");
        bench.upstream(&[decoy_error(), ready(b'I')].concat());
    };
    refused(&mut bench, "EXECUTE q");
    run(
        &mut bench,
        "PREPARE q AS SELECT * FROM orders",
        "PREPARE",
        b'I',
    );
    run(&mut bench, "EXECUTE q", "SELECT 1", b'I');
    assert!(bench.last_effects().contains("sql.select public.orders"));
    // What it stands for is judged, its own arguments too.
    refused(&mut bench, "EXECUTE q((SELECT salary FROM hr.pay))");
    run(&mut bench, "DEALLOCATE q", "DEALLOCATE", b'I');
    refused(&mut bench, "EXECUTE q");
}

#[test]
fn a_prepare_that_failed_defines_nothing() {
    let mut bench = Bench::new();
    let text = "PREPARE q AS SELECT nosuch FROM orders";
    assert_eq!(bench.agent(&query(text)), query(text));
    // Before the answer is there, nothing is known of the name.
    assert_eq!(bench.agent(&query("EXECUTE q")), b"");
    bench.upstream(&[server_error("42703", "no column"), ready(b'I')].concat());
    assert!(contains(&bench.io.to_upstream, "portcullis_denied_"));
}

#[test]
fn fetch_is_judged_by_its_cursor() {
    let mut bench = Bench::new();
    run(&mut bench, "BEGIN", "BEGIN", b'T');
    run(
        &mut bench,
        "DECLARE c CURSOR FOR SELECT * FROM orders",
        "DECLARE CURSOR",
        b'T',
    );
    run(&mut bench, "FETCH 5 FROM c", "FETCH 5", b'T');
    assert!(bench.last_effects().contains("sql.select public.orders"));
    run(&mut bench, "COMMIT", "COMMIT", b'I');
    let up = bench.agent(&query("FETCH 5 FROM c"));
    assert!(
        contains(&up, "portcullis_denied_"),
        "cursors end with their transaction"
    );
}

#[test]
fn a_held_cursor_outlives_its_transaction() {
    let mut bench = Bench::new();
    let declare = "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM orders";
    run(&mut bench, declare, "DECLARE CURSOR", b'I');
    run(&mut bench, "FETCH 5 FROM c", "FETCH 5", b'I');
    run(&mut bench, "CLOSE c", "CLOSE CURSOR", b'I');
    let up = bench.agent(&query("FETCH 5 FROM c"));
    assert!(contains(&up, "portcullis_denied_"));
}
