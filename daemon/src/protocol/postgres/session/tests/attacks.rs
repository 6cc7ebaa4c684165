//! Agents that try to make the gate's idea of the session part from the server's.

use super::*;

/// Everything but deletions, and settings and COPY too.
const WIDE: &str = "
  - {id: wide, role: analyst, allow: ['sql.*'], on: ['shop/*']}
  - {id: no, role: analyst, deny: [sql.delete], on: ['shop/*']}
";

/// And somebody has allowed this.
const UNKNOWN: &str = "  - {id: u, role: analyst, allow: [sql.unknown], on: ['shop/*']}\n";

const PREPARE: &str = "PREPARE q AS SELECT * FROM orders";

fn close(kind: u8, name: &str) -> Vec<u8> {
    frame(b'C', &[&[kind], name.as_bytes(), b"\0"].concat())
}

fn complete(tag: &str) -> Vec<u8> {
    frame(b'C', format!("{tag}\0").as_bytes())
}

fn copy_in() -> Vec<u8> {
    frame(b'G', &[0, 0, 0])
}

#[test]
fn a_name_that_the_server_would_cut_is_refused() {
    // The server keeps 63 bytes: these would be one name there, and two here.
    let (long, fits) = ("n".repeat(64), "n".repeat(63));
    let cut: [Vec<u8>; 5] = [
        parse(&long, GOOD),
        bind(&long, ""),
        bind("", &long),
        execute(&long),
        close(b'S', &long),
    ];
    for message in cut {
        let mut bench = Bench::new();
        bench.io.from_agent.extend_from_slice(&message);
        assert!(bench.faults(), "{:?}", message[0]);
        assert_eq!(&bench.io.to_upstream[..], b"");
    }
    let good = [parse(&fits, GOOD), bind(&fits, &fits), execute(&fits)].concat();
    assert_eq!(Bench::new().agent(&good), good);
}

#[test]
fn a_text_waits_for_the_report_of_a_setting_that_changes_how_it_is_read() {
    let mut bench = Bench::with(&format!("{WIDE}{UNKNOWN}"));
    let set = query("SET standard_conforming_strings = off");
    // With the setting on, all behind the first quote is a string.
    let hidden = query(r"SELECT '\', '; DELETE FROM orders; --'");
    let flush = frame(b'H', b"");
    let up = bench.agent(&[set.clone(), hidden.clone()].concat());
    assert_eq!(up, [set, flush].concat());
    let report = status("standard_conforming_strings", "off");
    bench.upstream(&[report, frame(b'C', b"SET\0"), ready(b'I')].concat());
    assert!(bench.last_effects().contains("sql.unknown"));
    assert_eq!(bench.io.to_upstream.split(), hidden);
    // Back to what the gate reads.
    bench.upstream(&[complete("SELECT 1"), ready(b'I')].concat());
    bench.upstream(&status("standard_conforming_strings", "on"));
    let good = query(GOOD);
    assert_eq!(bench.agent(&good), good);
}

#[test]
fn in_one_batch_no_report_comes_so_the_text_is_refused() {
    let mut bench = Bench::with(WIDE);
    let set = [
        parse("", "SET client_encoding = 'SJIS'"),
        bind("", ""),
        execute(""),
    ]
    .concat();
    let up = bench.agent(&[set.clone(), parse("", GOOD), sync()].concat());
    assert!(up.starts_with(&set) && !contains(&up[set.len()..], "SELECT"));
    assert!(bench.last_effects().contains("sql.unknown"));
    // Behind the Sync it has to wait, and is judged by what was reported.
    let text = "SELECT 'é' FROM orders";
    assert_eq!(bench.agent(&query(text)), b"");
    let answers = [
        frame(b'1', b""),
        frame(b'2', b""),
        complete("SET"),
        decoy_error(),
        status("client_encoding", "SJIS"),
        ready(b'I'),
    ];
    bench.io.from_upstream.extend_from_slice(&answers.concat());
    bench.run().expect("no fault");
    assert!(contains(&bench.io.to_upstream.split(), "portcullis_denied"));
}

#[test]
fn an_encoding_that_was_left_may_come_back() {
    let mut bench = Bench::with(WIDE);
    bench.upstream(&status("client_encoding", "SJIS"));
    bench.upstream(&status("client_encoding", "UTF8"));
    let (reset, text) = (query("ROLLBACK"), query("SELECT 'é' FROM orders"));
    assert_eq!(bench.agent(&[reset.clone(), text.clone()].concat()), reset);
    bench.upstream(&[complete("ROLLBACK"), ready(b'I')].concat());
    assert_eq!(bench.io.to_upstream.split(), text);
    bench.upstream(&[complete("SELECT 0"), ready(b'I')].concat());
    let batch = [parse("", "RESET ALL"), bind("", ""), execute("")].concat();
    let up = bench.agent(&[batch.clone(), parse("", "SELECT 'é' FROM orders")].concat());
    assert!(contains(&up[batch.len()..], "portcullis_denied"));
}

#[test]
fn a_message_that_only_the_server_finds_broken_is_refused() {
    // Its error would make the server skip what the gate takes for done.
    for tag in [b'H', b'S', b'c'] {
        let mut bench = Bench::new();
        bench.io.from_agent.extend_from_slice(&frame(tag, b"x"));
        assert!(bench.faults(), "{tag}");
    }
}

#[test]
fn an_error_that_nothing_can_have_caused_ends_the_session() {
    let mut bench = Bench::new();
    let error = server_error("08P01", "what?");
    bench.io.from_upstream.extend_from_slice(&error);
    assert!(bench.faults());
    let mut bench = Bench::new();
    let farewell = frame(b'E', b"SFATAL\0VFATAL\0C57P01\0Mbye\0\0");
    assert_eq!(bench.upstream(&farewell), farewell);
}

#[test]
fn a_query_is_not_over_before_it_has_been_answered() {
    let mut bench = Bench::with(WIDE);
    run(&mut bench, PREPARE, "PREPARE", b'I');
    // A ReadyForQuery too many: the answer to this one is still to come.
    bench.agent(&query("PREPARE q AS SELECT 1"));
    bench.io.from_upstream.extend_from_slice(&ready(b'I'));
    assert!(bench.faults());
}

#[test]
fn each_copy_of_one_query_ends_with_its_own_end_of_data() {
    let mut bench = Bench::with(WIDE);
    bench.agent(&query("COPY a FROM STDIN; COPY b FROM STDIN"));
    bench.agent(&frame(b'c', b""));
    bench.upstream(&copy_in());
    bench.upstream(&copy_in());
    // The second COPY still waits for data: the server ignores this Sync.
    bench.agent(&sync());
    bench.agent(&frame(b'c', b""));
    bench.upstream(&[complete("COPY 0"), complete("COPY 0"), ready(b'I')].concat());
    run(&mut bench, PREPARE, "PREPARE", b'I');
    // With the first end behind the first beginning, too.
    bench.agent(&query("COPY a FROM STDIN; COPY b FROM STDIN"));
    bench.upstream(&copy_in());
    bench.agent(&frame(b'c', b""));
    bench.upstream(&copy_in());
    bench.agent(&[sync(), frame(b'c', b"")].concat());
    bench.upstream(&[complete("COPY 0"), complete("COPY 0"), ready(b'I')].concat());
    run(&mut bench, "SELECT 1", "SELECT 1", b'I');
    // Had the Sync been counted, each answer from here on would be taken for an earlier one's.
    bench.agent(&query("PREPARE q AS SELECT 1"));
    bench.upstream(&[server_error("42P05", "exists"), ready(b'I')].concat());
    run(&mut bench, "SELECT 1", "SELECT 1", b'I');
    bench.agent(&query("EXECUTE q"));
    assert!(bench.last_effects().contains("sql.unknown"));
}

#[test]
fn a_portal_of_the_decoys_name_can_not_be_made() {
    let mut bench = Bench::new();
    bench.agent(&[query(BAD), parse("", BAD)].concat());
    let shown = "portcullis_denied_0000000000000007";
    let mut decoy = BytesMut::new();
    enforce::Decoys::new([7, 8]).write(enforce::Denied::Execute, &mut decoy);
    assert!(!contains(&decoy, shown), "the portal's mark can be seen");
    // Its error shows it, and is never passed on.
    let mut bench = Bench::new();
    bench.agent(&[bind("", "unseen"), execute(""), sync()].concat());
    let error = server_error(
        "34000",
        "portal \"portcullis_denied_0000000000000008\" does not exist",
    );
    let down = bench.upstream(&[frame(b'2', b""), error, ready(b'I')].concat());
    assert!(contains(&down, "C42501\0") && !contains(&down, "portcullis_denied"));
}

#[test]
fn what_the_server_says_about_a_decoy_stays_here() {
    let mut bench = Bench::new();
    bench.agent(&query(BAD));
    let text = "SLOG\0VLOG\0C00000\0Mstatement: portcullis_denied_0000000000000007\0\0";
    let notice = frame(b'N', text.as_bytes());
    let other = frame(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mhello\0\0");
    assert_eq!(bench.upstream(&[notice, other.clone()].concat()), other);
}

#[test]
fn a_function_by_number_is_not_known() {
    let mut bench = Bench::with(WIDE);
    let call = frame(b'F', &[0, 0, 0, 99, 0, 0, 0, 0, 0, 0]);
    let up = bench.agent(&call);
    assert!(
        contains(&up, "portcullis_denied"),
        "{}",
        bench.last_effects()
    );
    // Where somebody has allowed all that it may be, its answer comes back.
    let any = "  - {id: f, role: analyst, allow: [sql.unknown, sql.call], on: ['shop/*']}\n";
    let mut bench = Bench::with(&format!("{WIDE}{any}"));
    assert_eq!(bench.agent(&call), call);
    let answer = [frame(b'V', &[0xff; 4]), ready(b'I')].concat();
    assert_eq!(bench.upstream(&answer), answer);
    assert_eq!(bench.finished.len(), 1);
}

#[test]
fn rows_that_nobody_asked_for_do_not_reach_the_agent() {
    let mut bench = Bench::new();
    bench
        .io
        .from_upstream
        .extend_from_slice(&frame(b'D', &[0, 0]));
    assert!(bench.faults());
    assert_eq!(&bench.io.to_agent[..], b"");
}

#[test]
fn a_database_in_another_encoding_is_read_as_far_as_ascii_goes() {
    let open = |server: &str, conforming: &str| {
        let statuses = [
            status("client_encoding", "UTF8"),
            status("server_encoding", server),
            status("standard_conforming_strings", conforming),
        ];
        let cache = Arc::new(Cache::new(10, 1000));
        let statuses = statuses.concat();
        Relay::open(&settings(), cache, [1, 2], ConnectionId::next(), &statuses)
    };
    assert!(open("UTF8", "on").is_ok());
    let cache = Arc::new(Cache::new(10, 1000));
    assert!(Relay::open(&settings(), cache, [1, 2], ConnectionId::next(), b"").is_err());
    // Names beyond ASCII are folded by the server's locale there.
    let problem = |server: &str, conforming: &str, text: &str| {
        let Ok(mut relay) = open(server, conforming) else {
            panic!("refused")
        };
        let mut io = Buffers::default();
        io.from_agent.extend_from_slice(&query(text));
        match relay.advance(&mut io) {
            Ok(Step::Judge(question)) => question.operation.problem.is_some(),
            _ => panic!("not asked"),
        }
    };
    for server in ["SQL_ASCII", "LATIN1", "EUC_JP", ""] {
        assert!(problem(server, "on", "SELECT * FROM É"), "{server}");
        assert!(!problem(server, "on", GOOD), "{server}");
    }
    assert!(problem("UTF8", "off", GOOD));
}

#[test]
fn a_search_path_that_the_gate_can_not_follow_is_not_set() {
    for text in [
        "SET search_path = hr",
        "SELECT set_config('search_path', 'hr', false)",
        "SELECT pg_catalog.set_config($1, $2, false)",
        "UPDATE pg_settings SET setting = 'hr' WHERE name = 'search_path'",
    ] {
        let mut bench = Bench::with(WIDE);
        let up = bench.agent(&query(text));
        assert!(
            contains(&up, "portcullis_denied"),
            "{text}: {}",
            bench.last_effects()
        );
    }
}

#[test]
fn a_setting_by_function_counts_as_one_by_set() {
    let set = query("SELECT set_config('standard_conforming_strings', 'off', false)");
    let up = Bench::with(WIDE).agent(&set);
    assert!(contains(&up, "portcullis_denied"), "{up:?}");
    let mut bench = Bench::with(&format!("{WIDE}{UNKNOWN}"));
    let up = bench.agent(&[set.clone(), query("SELECT 1")].concat());
    assert_eq!(up, [set, frame(b'H', b"")].concat());
}

#[test]
fn what_is_doubtful_is_judged_by_what_it_seems_to_do_as_well() {
    // Found by the model test: somebody may have allowed sql.unknown.
    let mut bench = Bench::with(&format!("{WIDE}{UNKNOWN}"));
    let block = [parse("", "DO 'x'"), bind("", ""), execute("")].concat();
    let up = bench.agent(&[block.clone(), query(BAD)].concat());
    assert!(!contains(&up, BAD), "{}", bench.last_effects());
    let asked = bench.asked.last().expect("asked");
    assert_eq!(&*asked.operation.text, BAD, "the record has the text");
    let mut bench = Bench::with(&format!("{WIDE}{UNKNOWN}"));
    bench.upstream(&status("client_encoding", "LATIN1"));
    let up = bench.agent(&query("DELETE FROM orders /* é */"));
    assert!(
        contains(&up, "portcullis_denied"),
        "{}",
        bench.last_effects()
    );
    bench.upstream(&[decoy_error(), ready(b'I')].concat());
    let up = bench.agent(&frame(b'Q', b"SELECT '\xe9'\0"));
    assert!(
        !contains(&up, "portcullis_denied"),
        "{}",
        bench.last_effects()
    );
    assert!(bench.asked[1].operation.text.contains("SELECT"));
}
