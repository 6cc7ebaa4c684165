//! Texts behind an operation that may change how texts are read.

use super::*;

/// Everything, what can't be judged too, but no deletions.
const ALL: &str = "
  - {id: all, role: analyst, allow: ['sql.*', sql.unknown], on: ['shop/*']}
  - {id: no, role: analyst, deny: [sql.delete], on: ['shop/*']}
";

const SET: &str = "SET client_encoding = 'SJIS'";
const COPY: &str = "COPY orders FROM STDIN";

fn one(text: &str) -> Vec<u8> {
    [parse("", text), bind("", ""), execute("")].concat()
}

fn answered(tag: &str) -> Vec<u8> {
    let complete = frame(b'C', format!("{tag}\0").as_bytes());
    [frame(b'1', b""), frame(b'2', b""), complete].concat()
}

fn is_doubtful(bench: &Bench) -> bool {
    let effects = bench.last_effects();
    effects.contains("sql.unknown")
}

#[test]
fn a_report_that_would_have_come_with_a_skipped_query_comes_with_the_sync() {
    let mut bench = Bench::with(ALL);
    bench.agent(&[one(SET), parse("", "SELECT nosuch"), query(SET)].concat());
    bench.upstream(&[answered("SET"), server_error("42703", "no")].concat());
    assert_eq!(bench.agent(&sync()), sync());
    assert_eq!(bench.agent(&query("SELECT 'é'")), b"", "it does not wait");
    bench.upstream(&[status("client_encoding", "SJIS"), ready(b'I')].concat());
    assert!(is_doubtful(&bench));
}

#[test]
fn a_sync_that_a_copy_ignores_brings_no_report() {
    let mut bench = Bench::with(ALL);
    bench.agent(&[one(SET), one(COPY), sync()].concat());
    let begins = [frame(b'1', b""), frame(b'2', b""), frame(b'G', &[0, 0, 0])].concat();
    bench.upstream(&[answered("SET"), begins].concat());
    bench.agent(&frame(b'c', b""));
    bench.upstream(&frame(b'C', b"COPY 0\0"));
    bench.agent(&parse("", GOOD));
    assert!(is_doubtful(&bench));
}

#[test]
fn nor_that_an_encoding_is_back() {
    let mut bench = Bench::with(ALL);
    bench.upstream(&status("client_encoding", "SJIS"));
    bench.upstream(&status("client_encoding", "UTF8"));
    bench.agent(&[one("RESET ALL"), one(COPY), sync()].concat());
    let begins = [frame(b'1', b""), frame(b'2', b""), frame(b'G', &[0, 0, 0])].concat();
    bench.upstream(&[answered("RESET"), begins].concat());
    bench.agent(&frame(b'c', b""));
    bench.upstream(&frame(b'C', b"COPY 0\0"));
    bench.agent(&parse("", "SELECT 'é'"));
    assert!(is_doubtful(&bench));
}

#[test]
fn harmless_statements_hold_nothing_up() {
    let mut bench = Bench::with(ALL);
    let batch = [
        one("SET statement_timeout = 5"),
        one("BEGIN"),
        one(GOOD),
        sync(),
    ]
    .concat();
    let next = [one("SELECT 'é'"), sync()].concat();
    assert_eq!(
        bench.agent(&[batch.clone(), next.clone()].concat()),
        [batch, next].concat()
    );
}

#[test]
fn code_that_the_gate_does_not_read_may_change_it() {
    for text in ["DO 'anything'", "frobnicate"] {
        let mut bench = Bench::with(ALL);
        bench.agent(&[one(text), parse("", GOOD)].concat());
        assert!(is_doubtful(&bench), "{text}");
    }
}

#[test]
fn a_doubtful_text_may_have_changed_every_name() {
    let mut bench = Bench::with(ALL);
    run(
        &mut bench,
        "PREPARE q AS SELECT * FROM orders",
        "PREPARE",
        b'I',
    );
    bench.agent(&query("EXECUTE q"));
    assert!(!is_doubtful(&bench));
    bench.upstream(&[frame(b'C', b"SELECT 0\0"), ready(b'I')].concat());
    bench.agent(&[one(SET), one("PREPARE z AS SELECT 1"), sync()].concat());
    let report = status("client_encoding", "UTF8");
    bench.upstream(&[answered("SET"), answered("PREPARE"), report, ready(b'I')].concat());
    bench.agent(&query("EXECUTE q"));
    assert!(is_doubtful(&bench));
}

#[test]
fn bytes_that_are_no_text_are_never_sure() {
    let mut bench = Bench::with(ALL);
    let broken = frame(b'Q', b"SELECT '\xe9'\0");
    assert_eq!(bench.agent(&broken), broken, "allowed by sql.unknown");
    assert!(is_doubtful(&bench));
    let mut bench = Bench::new();
    assert!(contains(&bench.agent(&broken), "portcullis_denied_"));
}

/// The end value is what it was at the start, so that the server reports nothing.
#[test]
fn what_was_set_and_left_within_one_text_may_come_back() {
    let strings = (
        "standard_conforming_strings",
        r"SELECT 'x\', ' UNION SELECT a FROM hr.pay -- '",
    );
    let encoding = (
        "client_encoding",
        "SELECT E'\u{c1}\\' UNION SELECT a FROM hr.pay -- '",
    );
    for (setting, text) in [strings, encoding] {
        let bench = || {
            let mut bench = Bench::with(ALL);
            let left = format!("BEGIN; SET {setting} = x; SAVEPOINT a; SET {setting} = DEFAULT");
            run(&mut bench, &left, "SET", b'T');
            bench
        };
        // Nothing was said of it so far.
        let mut asked = bench();
        assert_eq!(asked.agent(&query(text)), query(text), "{setting}");
        assert!(!is_doubtful(&asked), "{setting}");
        // Behind a rollback it waits for what the server says then.
        let mut asked = bench();
        let back = query("ROLLBACK TO a");
        assert_eq!(
            asked.agent(&[back.clone(), query(text)].concat()),
            back,
            "{setting}"
        );
        let report = status(setting, "other");
        asked.upstream(&[report, frame(b'C', b"ROLLBACK\0"), ready(b'T')].concat());
        assert!(is_doubtful(&asked), "{setting}");
        // In one batch nothing is said in time.
        let mut asked = bench();
        asked.agent(&[one("ROLLBACK TO a"), parse("", text)].concat());
        assert!(is_doubtful(&asked), "{setting}");
        // What all settings read alike is held up by none.
        let mut asked = bench();
        let batch = [one("ROLLBACK TO a"), one(GOOD), sync(), query(GOOD)].concat();
        assert_eq!(asked.agent(&batch), batch, "{setting}");
        assert!(!is_doubtful(&asked), "{setting}");
    }
}

#[test]
fn a_login_that_does_not_say_how_texts_are_read_is_refused() {
    let all = [
        ("client_encoding", "UTF8"),
        ("server_encoding", "UTF8"),
        ("standard_conforming_strings", "on"),
    ];
    for left_out in 0..=all.len() {
        let mut statuses = Vec::new();
        for (_, (name, value)) in all.iter().enumerate().filter(|(at, _)| *at != left_out) {
            statuses.extend(status(name, value));
        }
        let cache = Arc::new(Cache::new(10, 1000));
        let relay = Relay::open(&settings(), cache, [1, 2], ConnectionId::next(), &statuses);
        assert_eq!(relay.is_ok(), left_out == all.len(), "{left_out}");
    }
}
