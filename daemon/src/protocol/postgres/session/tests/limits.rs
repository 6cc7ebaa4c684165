//! Bounds, farewells and half-said things.

use super::*;

/// Answers to Parse and Bind: as many as there are.
fn done(tag: u8, count: usize) -> Vec<u8> {
    frame(tag, b"").repeat(count)
}

#[test]
fn a_long_pipeline_waits_for_answers_and_asks_for_them() {
    let mut bench = Bench::new();
    let messages = bind("", "").repeat(10_000);
    let one = bind("", "").len();
    let up = bench.agent(&messages);
    let sent = up.len() / one;
    assert!(sent < 5000, "{sent}");
    assert_eq!(up[up.len() - 5..], [b'H', 0, 0, 0, 4]);
    assert!(bench.relay.is_waiting());
    // Half of the answers make room for as many again.
    bench.upstream(&done(b'2', sent / 2 + 1));
    let more = bench.io.to_upstream.split();
    assert!(more.len() > one * 1000, "{}", more.len());
    assert!(more.ends_with(&[b'H', 0, 0, 0, 4]));
}

#[test]
fn long_texts_are_bounded_all_together() {
    let mut bench = Bench::new();
    let text = format!("SELECT 1 /* {} */", "x".repeat(9000));
    let mut sent = 0;
    let ended = loop {
        let message = [parse(&format!("s{sent}"), &text), sync()].concat();
        bench.io.from_agent.extend_from_slice(&message);
        if let Err(reason) = bench.run() {
            break reason;
        }
        let answers = [done(b'1', 1), ready(b'I')];
        if let Some(reason) = answers.iter().find_map(|answer| {
            bench.io.from_upstream.extend_from_slice(answer);
            bench.run().err()
        }) {
            break reason;
        }
        bench.io.to_upstream.clear();
        sent += 1;
    };
    assert!(matches!(ended, CloseReason::AgentProtocol(_)), "{ended:?}");
    assert!((3000..9000).contains(&sent), "{sent}");
}

#[test]
fn names_are_bounded_too() {
    let mut bench = Bench::new();
    bench.agent(&[parse("s", GOOD), sync()].concat());
    bench.upstream(&[done(b'1', 1), ready(b'T')].concat());
    // Portals of one statement cost no bytes of their own.
    let ended = (0..100).find_map(|hundred| {
        let batch: Vec<u8> = (0..1000)
            .flat_map(|one| bind(&format!("p{hundred}-{one}"), "s"))
            .collect();
        bench
            .io
            .from_agent
            .extend_from_slice(&[batch, sync()].concat());
        let ended = bench.run().err();
        let answers = [done(b'2', 1000), ready(b'T')].concat();
        bench.io.from_upstream.extend_from_slice(&answers);
        ended.or_else(|| bench.run().err())
    });
    assert!(
        matches!(ended, Some(CloseReason::AgentProtocol(_))),
        "{ended:?}"
    );
}

#[test]
fn closed_statements_give_their_room_back() {
    let mut bench = Bench::new();
    let text = format!("SELECT 1 /* {} */", "x".repeat(9000));
    for _ in 0..9000 {
        let close = frame(b'C', b"Ss\0");
        bench.agent(&[parse("s", &text), close, sync()].concat());
        bench.upstream(&[done(b'1', 1), done(b'3', 1), ready(b'I')].concat());
    }
}

#[test]
fn what_was_said_before_goodbye_is_still_answered() {
    let mut bench = Bench::new();
    let messages = [query(GOOD), frame(b'X', b"")].concat();
    assert_eq!(bench.agent(&messages), messages);
    let answer = [frame(b'C', b"SELECT 0\0"), ready(b'I')].concat();
    bench.io.from_upstream.extend_from_slice(&answer);
    assert_eq!(bench.run(), Err(CloseReason::Finished));
    assert_eq!(&bench.io.to_agent[..], &answer[..]);
    assert_eq!(bench.finished[0].sqlstate, None);
}

#[test]
fn nothing_is_taken_after_goodbye() {
    let mut bench = Bench::new();
    bench.io.from_agent.extend_from_slice(&frame(b'X', b""));
    bench.io.from_agent.extend_from_slice(&query(GOOD));
    assert_eq!(bench.run(), Err(CloseReason::Finished));
    assert_eq!(&bench.io.to_upstream[..], &frame(b'X', b"")[..]);
    assert!(bench.asked.is_empty());
}

#[test]
fn a_count_that_overflows_is_a_big_count() {
    let mut bench = Bench::new();
    bench.agent(&query("SELECT 1; SELECT 2"));
    let most = frame(b'C', format!("SELECT {}\0", u64::MAX).as_bytes());
    bench.upstream(&[most.clone(), most, ready(b'I')].concat());
    assert_eq!(bench.finished[0].rows, u64::MAX);
}

/// A session that is logged in, by way of the real states.
fn session_inside_a_row() -> (PostgresSession, Buffers) {
    let mut bench = Bench::new();
    bench.agent(&query(GOOD));
    bench.upstream(&[&whole::described(1)[..], &[b'D', 0, 0, 1, 0, 0, 1]].concat());
    let cache = Arc::new(Cache::new(10, 1000));
    let connection = ConnectionId::next();
    let mut session = PostgresSession::new(Arc::new(settings()), cache, SEEDS, connection);
    session.state = State::Relay(Box::new(bench.relay));
    (session, Buffers::default())
}

#[test]
fn nothing_is_said_inside_a_half_sent_row() {
    let (mut session, mut io) = session_inside_a_row();
    io.from_agent.extend_from_slice(&frame(b'?', b""));
    let step = session.advance(&mut io);
    assert!(matches!(step, Step::Close(CloseReason::AgentProtocol(_))));
    assert_eq!(&io.to_agent[..], b"");
    assert_eq!(session.abandon().len(), 1, "what ran is not forgotten");
    let (mut session, mut io) = session_inside_a_row();
    session.expel(Expulsion::Revoked, &mut io);
    assert_eq!(&io.to_agent[..], b"");
}
