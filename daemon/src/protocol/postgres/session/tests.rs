mod allocations;
mod attacks;
mod bench;
mod limits;
mod names;
mod odd_texts;
mod prepared;
mod reading;
mod states;
mod whole;

use std::sync::Arc;

use bytes::BytesMut;

pub(super) use bench::settings;
use bench::*;

use super::*;
use crate::policy::{Decision, Policy, Request};
use crate::protocol::{Stage, Verdict};
use crate::types::{ConnectionId, Principal, ServiceName};

#[test]
fn nothing_of_a_statement_goes_up_before_the_whole_of_it_is_judged() {
    let message = query(GOOD);
    let mut bench = Bench::new();
    let (last, first) = message.split_last().expect("bytes");
    for (at, byte) in first.iter().enumerate() {
        assert_eq!(bench.agent(&[*byte]), b"", "after byte {at}");
    }
    assert!(bench.asked.is_empty());
    assert_eq!(bench.agent(&[*last]), message);
    assert_eq!(bench.asked.len(), 1);
}

#[test]
fn a_denied_query_becomes_a_decoy_and_its_error_the_denial() {
    let mut bench = Bench::new();
    let up = bench.agent(&query(BAD));
    assert!(!contains(&up, "DELETE") && contains(&up, "portcullis_denied_"));
    let down = bench.upstream(&[decoy_error(), ready(b'E')].concat());
    assert!(contains(&down, "C42501\0") && !contains(&down, "portcullis_denied_"));
    assert!(contains(&down, "sql.delete on shop/public.orders"));
    assert!(
        down.ends_with(&ready(b'E')),
        "the server's own transaction state"
    );
}

#[test]
fn one_bad_statement_denies_the_whole_text() {
    let mut bench = Bench::new();
    let up = bench.agent(&query("SELECT * FROM orders; DROP TABLE orders"));
    assert!(!contains(&up, "SELECT"), "{up:?}");
}

#[test]
fn answers_are_the_same_however_they_are_cut() {
    let messages = [parse("s", GOOD), bind("", "s"), execute(""), sync()].concat();
    let row = frame(b'D', &[0, 1, 0, 0, 0, 1, b'x']);
    let answers = [
        frame(b'1', b""),
        frame(b'2', b""),
        row.clone(),
        row,
        frame(b'C', b"SELECT 2\0"),
        ready(b'I'),
    ]
    .concat();
    for cut in 0..=answers.len() {
        let mut bench = Bench::new();
        assert_eq!(bench.agent(&messages), messages);
        let (head, tail) = answers.split_at(cut);
        let mut down = bench.upstream(head);
        down.extend(bench.upstream(tail));
        assert_eq!(down, answers, "cut at {cut}");
        assert_eq!(bench.finished.len(), 1);
        assert_eq!((bench.finished[0].number, bench.finished[0].rows), (2, 2));
    }
}

#[test]
fn after_a_denial_in_a_pipeline_nothing_goes_up_until_sync() {
    let mut bench = Bench::new();
    let first = [parse("", GOOD), bind("", ""), execute("")].concat();
    let denied = [parse("", BAD), bind("", ""), execute("")].concat();
    let up = bench.agent(&[first.clone(), denied, sync()].concat());
    assert!(up.starts_with(&first) && up.ends_with(&sync()));
    let between = &up[first.len()..up.len() - sync().len()];
    let mut decoy = BytesMut::new();
    enforce::Decoys::new([7, 8]).write(enforce::Denied::Parse(b""), &mut decoy);
    assert_eq!(between, &decoy[..], "only the decoy stands between");
    let stages: Vec<_> = bench.asked.iter().map(|question| question.stage).collect();
    assert_eq!(stages, [Stage::Prepare, Stage::Execute, Stage::Prepare]);
    // The next batch is judged and goes up again.
    let again = [parse("", GOOD), bind("", ""), execute(""), sync()].concat();
    assert_eq!(bench.agent(&again), again);
}

#[test]
fn an_earlier_error_makes_the_server_skip_a_decoy_too() {
    let mut bench = Bench::new();
    bench.agent(&[parse("", GOOD), bind("", ""), execute("")].concat());
    bench.agent(&[parse("", BAD), sync()].concat());
    let answers = [
        frame(b'1', b""),
        server_error("22P02", "bad value"),
        ready(b'I'),
    ]
    .concat();
    let down = bench.upstream(&answers);
    assert_eq!(down, answers, "the server's own error, and no denial");
    let good = query(GOOD);
    assert_eq!(bench.agent(&good), good);
}

#[test]
fn a_sync_inside_copy_in_gets_no_answer() {
    let mut bench = Bench::with(&READS.replace("[sql.select]", "[sql.copy_in, sql.insert]"));
    let messages = [
        parse("", "COPY orders FROM STDIN"),
        bind("", ""),
        execute(""),
        sync(),
    ]
    .concat();
    bench.agent(&messages);
    let answers = [frame(b'1', b""), frame(b'2', b""), frame(b'G', &[0, 0, 0])].concat();
    bench.upstream(&answers);
    bench.agent(&[frame(b'd', b"1\n"), frame(b'c', b""), sync()].concat());
    let end = [frame(b'C', b"COPY 1\0"), ready(b'I')].concat();
    assert_eq!(bench.upstream(&end), end);
    assert_eq!(bench.finished[0].rows, 1);
}

#[test]
fn a_server_that_lies_ends_the_session() {
    let lies = [
        frame(b'1', b""),
        ready(b'I'),
        frame(b'C', b"SELECT 1\0"),
        frame(b'?', b""),
        vec![b'Z', 0, 0, 0, 3],
        vec![b'N', 0x7f, 0xff, 0xff, 0xff],
        frame(b'S', b"standard_conforming_strings"),
    ];
    for lie in lies {
        let mut bench = Bench::new();
        bench.io.from_upstream.extend_from_slice(&lie);
        let closed = bench.run();
        assert!(
            matches!(closed, Err(CloseReason::UpstreamProtocol(_))),
            "{lie:?}: {closed:?}"
        );
    }
}

#[test]
fn an_agent_that_breaks_the_protocol_is_put_out() {
    let broken: [&[u8]; 6] = [
        &[b'Q', 0, 0, 0, 0],
        &[b'Q', 0xff, 0xff, 0xff, 0xff],
        &[b'Q', 0x7f, 0xff, 0xff, 0xff],
        &[b'?', 0, 0, 0, 4],
        &[b'Q', 0, 0, 0, 6, b'x', b'y'],
        &[b'C', 0, 0, 0, 6, b'X', 0],
    ];
    for bytes in broken {
        let mut bench = Bench::new();
        bench.io.from_agent.extend_from_slice(bytes);
        let closed = bench.run();
        assert!(
            matches!(closed, Err(CloseReason::AgentProtocol(_))),
            "{bytes:?}: {closed:?}"
        );
        assert_eq!(&bench.io.to_upstream[..], b"");
    }
}

#[test]
fn text_that_may_hide_a_quote_is_refused() {
    let mut bench = Bench::new();
    bench.upstream(&frame(b'S', b"client_encoding\0SJIS\0"));
    bench.agent(&query("SELECT 'é' FROM orders"));
    assert!(bench.asked[0].operation.problem.is_some());
    bench.agent(&query(GOOD));
    assert!(bench.asked[1].operation.problem.is_none());
}

#[test]
fn an_unwritable_record_refuses_what_the_policy_allows() {
    let mut bench = Bench::new();
    bench.io.from_agent.extend_from_slice(&query(GOOD));
    let step = bench.relay.advance(&mut bench.io);
    assert!(matches!(step, Ok(Step::Judge(_))));
    bench.relay.verdict(&Verdict::NotRecorded, &mut bench.io);
    assert!(!contains(&bench.io.to_upstream, "SELECT"));
    let down = bench.upstream(&[decoy_error(), ready(b'I')].concat());
    assert!(contains(&down, "C58030\0"));
}

#[test]
fn the_startup_is_refused_before_anything_is_dialled() {
    let cases: [(&[u8], &str); 4] = [
        (b"user\0a\0options\0-c user=postgres\0\0", "42501"),
        (b"user\0a\0replication\0database\0\0", "42501"),
        (b"user\0a\0options\0-e\0\0", "42501"),
        (b"database\0shop\0\0", "28000"),
    ];
    for (parameters, code) in cases {
        let cache = Arc::new(Cache::new(10, 1000));
        let connection = ConnectionId::next();
        let mut session = PostgresSession::new(Arc::new(settings()), cache, SEEDS, connection);
        let mut io = Buffers::default();
        let mut packet = u32::try_from(parameters.len() + 8)
            .expect("short")
            .to_be_bytes()
            .to_vec();
        packet.extend(196_608_i32.to_be_bytes());
        packet.extend(parameters);
        io.from_agent.extend_from_slice(&packet);
        assert!(matches!(
            session.advance(&mut io),
            Step::Close(CloseReason::Refused)
        ));
        assert!(contains(&io.to_agent, code), "{parameters:?}");
        assert_eq!(&io.to_upstream[..], b"");
    }
}

#[test]
fn decisions_name_the_request() {
    let connection = ConnectionId::next();
    let policy = policy(READS);
    let decision = policy.decide(&Request {
        principal: &Principal::named("analyst"),
        service: &ServiceName::from("shop"),
        effects: &[crate::policy::Effect::on_path(
            crate::policy::Verb::SqlDelete,
            "public.orders",
        )],
    });
    assert!(matches!(decision, Decision::Deny(_)));
    let request = crate::types::RequestId {
        connection,
        number: 3,
    };
    let error = enforce::denial(&Verdict::Decided(Arc::new(decision)), request).expect("denied");
    assert!(
        error.detail.contains(&request.to_string()),
        "{}",
        error.detail
    );
}
