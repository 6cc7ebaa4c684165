//! What a statement's or portal's name stands for, at each moment that it may change.

use super::*;

const OTHER: &str = "SELECT id FROM orders";

fn close(kind: u8, name: &str) -> Vec<u8> {
    frame(b'C', &[&[kind], name.as_bytes(), b"\0"].concat())
}

/// Answers to Parse, Bind or Close.
fn done(tag: u8) -> Vec<u8> {
    frame(tag, b"")
}

/// A bench in a transaction, with the statement `s` and the portal `p` of it.
fn bound() -> Bench {
    let mut bench = Bench::new();
    bench.agent(&[parse("s", GOOD), bind("p", "s"), sync()].concat());
    bench.upstream(&[done(b'1'), done(b'2'), ready(b'T')].concat());
    bench
}

/// Whether the message goes up as it is; else a decoy does, because the gate has not seen
/// what its name stands for.
fn is_known(bench: &mut Bench, message: &[u8]) -> bool {
    let up = bench.agent(message);
    assert_ne!(up, b"", "it waits");
    assert_eq!(up == message, !contains(&up, "portcullis_denied_"));
    up == message
}

fn waits(bench: &mut Bench, message: &[u8]) {
    assert_eq!(bench.agent(message), b"", "it does not wait");
    assert!(bench.relay.is_waiting());
}

#[test]
fn a_portal_that_is_there_is_known() {
    let mut bench = bound();
    assert!(is_known(&mut bench, &execute("p")));
    assert_eq!(bench.last_effects(), "sql.select public.orders");
}

#[test]
fn a_portal_of_an_unanswered_batch_waits() {
    let mut bench = Bench::new();
    bench.agent(&[parse("s", GOOD), bind("p", "s"), sync()].concat());
    waits(&mut bench, &execute("p"));
    bench.upstream(&[done(b'1'), done(b'2'), ready(b'T')].concat());
    assert_eq!(bench.io.to_upstream.split(), execute("p"));
    // Another portal of the same name is judged by its own statement.
    let mut bench = bound();
    bench.agent(&[parse("t", OTHER), bind("p", "t"), sync()].concat());
    waits(&mut bench, &execute("p"));
    bench.upstream(&[done(b'1'), server_error("42P03", "exists"), ready(b'E')].concat());
    assert_eq!(&*bench.asked.last().expect("asked").operation.text, GOOD);
}

#[test]
fn a_portal_may_end_with_a_query_or_a_sync_under_way() {
    for (last, answer) in [
        (query("COMMIT"), frame(b'C', b"COMMIT\0")),
        (sync(), Vec::new()),
    ] {
        let mut bench = bound();
        bench.agent(&last);
        waits(&mut bench, &execute("p"));
        bench.upstream(&[answer, ready(b'I')].concat());
        assert!(contains(&bench.io.to_upstream, "portcullis_denied_"));
    }
}

#[test]
fn a_query_drops_the_unnamed_statement() {
    let unnamed = [bind("", ""), execute("")].concat();
    let prepared = || {
        let mut bench = Bench::new();
        bench.agent(&[parse("", GOOD), sync()].concat());
        bench.upstream(&[done(b'1'), ready(b'I')].concat());
        bench
    };
    assert!(is_known(&mut prepared(), &unnamed));
    // At once, and when it has been answered.
    let mut bench = prepared();
    bench.agent(&query(GOOD));
    assert!(!is_known(&mut bench, &unnamed));
    let mut bench = prepared();
    run(&mut bench, GOOD, "SELECT 0", b'I');
    assert!(!is_known(&mut bench, &unnamed));
}

#[test]
fn a_parse_that_fails_drops_the_unnamed_statement_and_no_other() {
    for (name, known) in [("", false), ("s", true)] {
        let mut bench = Bench::new();
        bench.agent(&[parse(name, GOOD), sync()].concat());
        bench.upstream(&[done(b'1'), ready(b'I')].concat());
        bench.agent(&[parse(name, OTHER), sync()].concat());
        bench.upstream(&[server_error("42703", "no"), ready(b'I')].concat());
        let run = [bind("", name), execute("")].concat();
        assert_eq!(is_known(&mut bench, &run), known, "{name:?}");
    }
}

#[test]
fn a_portal_of_a_statement_that_the_gate_does_not_know_hides_the_older_one() {
    let mut bench = bound();
    bench.agent(&[close(b'P', "p"), bind("p", "made_in_sql"), sync()].concat());
    bench.upstream(&[done(b'3'), done(b'2'), ready(b'T')].concat());
    assert!(!is_known(&mut bench, &execute("p")));
    let mut bench = bound();
    bench.agent(&[bind("p", "made_in_sql"), sync()].concat());
    bench.upstream(&[done(b'2'), ready(b'T')].concat());
    assert!(!is_known(&mut bench, &execute("p")));
}

#[test]
fn what_is_closed_is_gone() {
    let mut bench = bound();
    bench.agent(&[close(b'P', "p"), sync()].concat());
    bench.upstream(&[done(b'3'), ready(b'T')].concat());
    assert!(!is_known(&mut bench, &execute("p")));
    let mut bench = bound();
    bench.agent(&[close(b'S', "s"), sync()].concat());
    bench.upstream(&[done(b'3'), ready(b'T')].concat());
    assert!(!is_known(
        &mut bench,
        &[bind("", "s"), execute("")].concat()
    ));
    // In the same batch too, before any answer.
    let mut bench = bound();
    let batch = [close(b'P', "p"), execute("p")].concat();
    assert!(!is_known(&mut bench, &batch));
}

#[test]
fn a_close_that_was_skipped_closed_nothing() {
    let mut bench = bound();
    bench.agent(
        &[
            parse("t", OTHER),
            close(b'P', "p"),
            close(b'S', "s"),
            sync(),
        ]
        .concat(),
    );
    bench.upstream(&[server_error("42601", "no"), ready(b'T')].concat());
    assert!(is_known(&mut bench, &execute("p")));
    assert!(is_known(&mut bench, &bind("", "s")));
}

#[test]
fn what_was_made_in_sql_and_failed_to_run_is_forgotten() {
    // By the extended protocol: PREPARE is run by Execute, which may fail.
    let text = "PREPARE q AS SELECT * FROM orders";
    let batch = [parse("", text), bind("", ""), execute(""), sync()].concat();
    let answers = |last: Vec<u8>| [done(b'1'), done(b'2'), last, ready(b'I')].concat();
    let mut bench = Bench::new();
    bench.agent(&batch);
    bench.upstream(&answers(frame(b'C', b"PREPARE\0")));
    assert!(is_known(&mut bench, &query("EXECUTE q")));
    bench.upstream(&[frame(b'C', b"SELECT 0\0"), ready(b'I')].concat());
    // It exists already: whatever it stands for, the gate is not sure of it any more.
    bench.agent(&batch);
    bench.upstream(&answers(server_error("42P05", "exists")));
    assert!(!is_known(&mut bench, &query("EXECUTE q")));
}

#[test]
fn a_name_of_a_name_is_not_followed() {
    let mut bench = Bench::new();
    run(
        &mut bench,
        "PREPARE q AS SELECT * FROM orders",
        "PREPARE",
        b'I',
    );
    assert!(is_known(
        &mut bench,
        &[parse("s", "EXECUTE q"), sync()].concat()
    ));
    bench.upstream(&[done(b'1'), ready(b'I')].concat());
    // `s` runs `q`; what `EXECUTE s` would run is one step too far.
    assert!(!is_known(&mut bench, &query("EXECUTE s")));
}

#[test]
fn a_statement_made_by_a_block_is_not_the_one_that_was_known() {
    let mut bench = Bench::with(
        "
  - {id: all, role: analyst, allow: ['sql.*'], on: ['shop/*']}
",
    );
    run(
        &mut bench,
        "PREPARE q AS SELECT * FROM orders",
        "PREPARE",
        b'I',
    );
    run(&mut bench, "DO 'anything'", "DO", b'I');
    assert!(!is_known(&mut bench, &query("EXECUTE q")));
}
