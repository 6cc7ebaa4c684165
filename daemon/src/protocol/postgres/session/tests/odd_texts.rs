//! NUL and bytes that are no UTF-8, in every place where a text stands; a server that goes
//! away in the middle of a message.

use super::whole::{At, Whole, described};
use super::*;

/// A start-up packet with this behind its version.
fn started(body: &[u8]) -> Whole {
    let length = u32::try_from(body.len() + 8).expect("short").to_be_bytes();
    let packet = [&length[..], &196_608_i32.to_be_bytes(), body].concat();
    let mut whole = Whole::at(At::Start);
    whole.say(&packet);
    whole
}

#[test]
fn a_start_up_with_texts_that_can_not_be_read_is_refused() {
    for body in [
        &b"user\0a\xff\0\0"[..],
        b"user\0a\0data\xffbase\0shop\0\0",
        b"user\0a\0application_name\0\xc3\0\0",
        // A NUL ends a text: what is behind it is the next one, or too much.
        b"user\0a\0database\0shop\0\0hidden\0",
        b"user\0a\0database\0\0shop\0\0",
        b"user\0a\0shop\0\0",
        b"user\0",
        b"user",
        b"\0",
        b"",
    ] {
        let whole = started(body);
        assert!(whole.closed.is_some(), "{body:?}");
        assert!(contains(&whole.io.to_agent, "FATAL"), "{body:?}");
        assert_eq!(&whole.io.to_upstream[..], b"", "{body:?}");
    }
    assert!(started(b"user\0a\0\0").closed.is_none());
}

/// The server reads a name up to its NUL, and so does the gate: what goes up is what came,
/// and the next message finds the same name.
#[test]
fn a_nul_in_a_name_ends_it_for_both() {
    let cut = |tag: u8, body: &[u8]| (tag, frame(tag, body));
    for (tag, message) in [
        cut(b'P', b"na\0me\0SELECT 1\0\0\0"),
        cut(b'B', b"na\0me\0\0\0\0\0\0\0\0"),
        cut(b'E', b"na\0me\0\0\0\0\0"),
        cut(b'D', b"Sna\0me\0"),
        cut(b'C', b"Sna\0me\0"),
    ] {
        let mut bench = Bench::new();
        let up = bench.agent(&message);
        let decoy = contains(&up, "portcullis_denied");
        assert!(up == message || decoy, "{:?}", char::from(tag));
        // `me` is the text of the Parse, and no statement.
        assert_eq!(decoy, matches!(tag, b'P' | b'E'), "{:?}", char::from(tag));
    }
    let unfinished = [
        frame(b'Q', b"SELECT 1"),
        frame(b'Q', b"SELECT 1\0\0"),
        frame(b'P', b"name"),
        frame(b'P', b"name\0SELECT 1"),
        frame(b'B', b"portal\0statement"),
        frame(b'E', b"portal"),
        frame(b'D', b""),
        frame(b'C', b"S"),
    ];
    for message in unfinished {
        let mut bench = Bench::new();
        bench.io.from_agent.extend_from_slice(&message);
        assert!(bench.faults(), "{message:?}");
        assert_eq!(&bench.io.to_upstream[..], b"");
    }
}

#[test]
fn a_name_may_be_any_bytes_and_a_text_may_not() {
    let name = b"\xff\xfe";
    let parse = frame(
        b'P',
        &[&name[..], b"\0", GOOD.as_bytes(), b"\0\0\0"].concat(),
    );
    let bind = frame(b'B', &[b"\0", &name[..], b"\0\0\0\0\0\0\0"].concat());
    let all = [parse, bind, execute("")].concat();
    assert_eq!(Bench::new().agent(&all), all);
    for text in [
        &b"SELECT '\xff' FROM orders\0"[..],
        b"SELECT * FROM orders\xc3\0",
    ] {
        let mut bench = Bench::new();
        let up = bench.agent(&frame(b'Q', text));
        assert!(contains(&up, "portcullis_denied"), "{text:?}");
        assert!(bench.last_effects().contains("sql.unknown"));
    }
}

/// Half of a message that must be whole never reaches the agent; half of a row does, and
/// then nothing more is said.
#[test]
fn a_server_that_goes_away_in_the_middle_of_a_message() {
    let answers = [described(1), frame(b'C', b"SELECT 1\0"), ready(b'I')].concat();
    for cut in 0..answers.len() {
        let mut whole = Whole::at(At::Query);
        whole.hear(&answers[..cut]);
        let told = whole.io.to_agent.split();
        whole.expel(Expulsion::UpstreamGone);
        let mut rest = &told[..];
        while let Ok(Some(frame)) = crate::protocol::postgres::codec::whole(rest, 10_000) {
            rest = &rest[frame.len..];
        }
        assert_eq!(rest, b"", "cut at {cut}");
        assert!(contains(&whole.io.to_agent, "C08006"), "cut at {cut}");
    }
    let mut whole = Whole::at(At::Row);
    whole.expel(Expulsion::UpstreamGone);
    assert_eq!(&whole.io.to_agent[..], b"");
}
