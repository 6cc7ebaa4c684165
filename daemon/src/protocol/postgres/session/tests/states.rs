//! Each message of each side in each state, right and wrong: what is not in turn closes the
//! session, and nothing of it goes anywhere.

use super::whole::{ALL, At, Whole, answers, described};
use super::*;
use crate::protocol::LONGEST_ANSWER;

/// What comes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It goes on to the other side, or is understood.
    Taken,
    /// It is taken and goes nowhere.
    Dropped,
    /// It is not looked at yet.
    Waits,
    Closes,
}

use Fate::{Closes, Dropped, Taken, Waits};

impl Fate {
    /// Of a message that was given: whether anything of it is left, and came out.
    fn of(whole: &Whole, at: At, left: &[u8], out: &[u8]) -> Self {
        match (&whole.closed, left.is_empty(), out.is_empty()) {
            (Some(_), ..) if at != At::Closed => Closes,
            (_, false, _) => Waits,
            (_, true, true) => Dropped,
            (_, true, false) => Taken,
        }
    }
}

fn agents_sample(tag: u8) -> Vec<u8> {
    match tag {
        b'Q' => query(GOOD),
        b'P' => parse("s", GOOD),
        b'B' => bind("", "unseen"),
        b'E' => execute(""),
        b'D' | b'C' => frame(tag, b"S\0"),
        b'F' => frame(b'F', &[0, 0, 0, 99, 0, 0, 0, 0, 0, 0]),
        b'd' => frame(b'd', b"1\n"),
        b'f' => frame(b'f', b"no\0"),
        _ => frame(tag, b""),
    }
}

/// PostgreSQL's manual, 55.2, and the gate's own caution.
fn agents_fate(at: At, tag: u8) -> Fate {
    use At::*;
    match (at, tag) {
        // A ClientHello begins with it.
        (Start, 0x16) => Waits,
        // A start-up packet has no tag.
        (Start, _) => Closes,
        (Dialling | Tls | Handshake | Vault | Proving | Proved | Settings, _) => Waits,
        (Judging | Goodbye | Closed, _) => Waits,
        // Nothing is owed an answer.
        (Idle | Skipping, b'X') => Closes,
        (_, b'X' | b'S') => Taken,
        (Skipping, b'Q' | b'P' | b'B' | b'E' | b'D' | b'C' | b'F' | b'H' | b'd' | b'c' | b'f') => {
            Dropped
        }
        // Before its query is over, a portal may be another one.
        (Query | Row | CopyOut | Synced, b'E') => Waits,
        (CopyIn, b'Q' | b'P' | b'B' | b'E' | b'D' | b'C' | b'F') => Waits,
        (_, b'Q' | b'P' | b'B' | b'E' | b'D' | b'C' | b'F' | b'H' | b'd' | b'c' | b'f') => Taken,
        _ => Closes,
    }
}

#[test]
fn every_message_of_the_agent_in_every_state() {
    for at in ALL {
        for tag in 0..=255 {
            let mut whole = Whole::at(at);
            whole.say(&agents_sample(tag));
            let (left, out) = (&whole.io.from_agent, &whole.io.to_upstream);
            let fate = Fate::of(&whole, at, left, out);
            let name = format!("{at:?} {:?}", char::from(tag));
            assert_eq!(fate, agents_fate(at, tag), "{name}");
            whole.check(&name);
            // The COPY that is in its way is ended.
            let sent = &whole.io.to_upstream[..];
            if at == At::CopyIn && fate == Waits {
                assert_eq!(sent.first(), Some(&b'f'), "{name}");
            } else if fate != Taken && tag != b'X' {
                assert_eq!(sent, b"", "{name}");
            }
        }
    }
}

fn servers_sample(tag: u8) -> Vec<u8> {
    match tag {
        b'R' => frame(b'R', &[0; 4]),
        b'K' => frame(b'K', &[0, 0, 0, 7, 1, 2, 3, 4]),
        b'S' => status("a", "b"),
        b'Z' => ready(b'I'),
        b'E' => server_error("22012", "no"),
        b'N' => frame(b'N', b"SNOTICE\0\0"),
        b'A' => frame(b'A', b"\0\0\0\x07a\0b\0"),
        b'C' => frame(b'C', b"SELECT 1\0"),
        b'T' => described(1),
        b't' => frame(b't', &[0, 0]),
        b'D' => frame(b'D', &[0, 1, 0, 0, 0, 1, b'x']),
        b'd' => frame(b'd', b"1\n"),
        b'G' | b'H' | b'W' => frame(tag, &[0, 0, 0]),
        b'V' => frame(b'V', &[0xff; 4]),
        b'v' => frame(b'v', &[0, 3, 0, 0, 0, 0, 0, 0]),
        _ => frame(tag, b""),
    }
}

fn servers_fate(at: At, tag: u8) -> Fate {
    use At::*;
    match (at, tag) {
        (Handshake | Vault | Closed, _) => Waits,
        // One byte is the answer; a message is none.
        (Tls, _) => Closes,
        (Proving | Proved | Settings, b'N') => Dropped,
        (Proved, b'R') | (Settings, b'S' | b'K') => Dropped,
        (Proving | Proved | Settings, _) => Closes,
        (Row, _) | (_, b'A' | b'N' | b'S') => Taken,
        (Query | Goodbye, b'T' | b'C' | b'I' | b'E') => Taken,
        (Batch, b'1' | b'E') => Taken,
        (Executing, b'D' | b'C' | b'I' | b's' | b'E') => Taken,
        (Describing, b't' | b'T' | b'n' | b'E') => Taken,
        (Synced, b'Z' | b'E') => Taken,
        (CopyIn, b'G' | b'T' | b'C' | b'I' | b'E') => Taken,
        (CopyOut, b'H' | b'd' | b'c' | b'E') => Taken,
        _ => Closes,
    }
}

#[test]
fn every_message_of_the_server_in_every_state() {
    let connected = ALL
        .into_iter()
        .filter(|at| !matches!(at, At::Start | At::Dialling));
    for at in connected {
        for tag in 0..=255 {
            let mut whole = Whole::at(at);
            let sample = servers_sample(tag);
            whole.hear(&sample);
            let (left, out) = (&whole.io.from_upstream, &whole.io.to_agent);
            let fate = Fate::of(&whole, at, left, out);
            let name = format!("{at:?} {:?}", char::from(tag));
            assert_eq!(fate, servers_fate(at, tag), "{name}");
            whole.check(&name);
            match fate {
                Taken => assert_eq!(&whole.io.to_agent[..], &sample[..], "{name}"),
                // What the agent asked for at start-up is not to be had.
                Closes if (at, tag) == (At::Settings, b'E') => {
                    assert_eq!(&whole.io.to_agent[..], &sample[..], "{name}");
                }
                // The gate's own words, and none of the server's.
                Closes => {
                    assert_eq!(whole.io.to_agent.first(), Some(&b'E'), "{name}");
                    assert!(contains(&whole.io.to_agent, "FATAL"), "{name}");
                    assert!(!contains(&whole.io.to_agent, "C22012"), "{name}");
                }
                Dropped | Waits => assert_eq!(&whole.io.to_agent[..], b"", "{name}"),
            }
        }
    }
}

#[test]
fn the_answer_about_tls_is_one_byte() {
    for byte in 0..=255 {
        let mut whole = Whole::at(At::Tls);
        let step = whole.hear(&[byte]);
        assert_eq!(matches!(step, Step::StartTls), byte == b'S', "{byte}");
        assert_eq!(whole.closed.is_none(), byte == b'S', "{byte}");
    }
}

/// Bodies that no message of the server's has, or that are cut short.
#[test]
fn a_message_of_the_wrong_shape_closes() {
    let wrong: [(At, u8, &[u8]); 26] = [
        (At::Proving, b'R', b""),
        (At::Proving, b'R', &[0, 0, 0]),
        (At::Proving, b'E', &[]),
        (At::Settings, b'K', &[0, 0, 0, 7]),
        (At::Settings, b'K', &[0, 0, 0, 7, 1, 2, 3]),
        (At::Settings, b'K', &[0; 4 + 257]),
        (At::Idle, b'S', b"client_encoding\0UTF8"),
        (At::Idle, b'S', b"client_encoding\0"),
        (At::Idle, b'S', b"a\0b\0c\0"),
        (At::Idle, b'A', b"\0\0\0"),
        (At::Idle, b'A', b"\0\0\0\x07a\0"),
        (At::Idle, b'N', b"SNOTICE"),
        (At::Idle, b'N', b""),
        (At::Query, b'E', b"SERROR\0C22012\0"),
        (At::Query, b'C', b"SELECT 1"),
        (At::Query, b'C', b"SELECT 1\0\0"),
        (At::Query, b'T', b""),
        (At::Query, b'T', &[0xff, 0xff]),
        (At::Query, b'T', &[0, 1, b'x', 0, 0]),
        (At::Query, b'I', b"x"),
        (At::Synced, b'Z', b""),
        (At::Synced, b'Z', b"X"),
        (At::Synced, b'Z', b"II"),
        (At::Batch, b'1', b"x"),
        (At::Executing, b's', b"x"),
        (At::Describing, b't', &[0, 1]),
    ];
    for (at, tag, body) in wrong {
        let mut whole = Whole::at(at);
        whole.hear(&frame(tag, body));
        let name = format!("{at:?} {:?} {body:?}", char::from(tag));
        assert!(whole.closed.is_some(), "{name}");
        whole.check(&name);
    }
}

#[test]
fn rows_are_those_that_were_described_and_asked_for() {
    let row = |fields: &[u8]| frame(b'D', fields);
    for (described_as, fields, taken) in [
        (1, &[0, 1, 0, 0, 0, 1, b'x'][..], true),
        (1, &[0, 0], false),
        (
            1,
            &[0, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            false,
        ),
        (0, &[0, 0], true),
        (2, &[0xff, 0xff], false),
        (1, &[], false),
        (1, &[0], false),
    ] {
        let mut whole = Whole::at(At::Query);
        let head = described(described_as);
        whole.hear(&head);
        let row = row(fields);
        // However it is cut.
        for byte in &row {
            whole.hear(&[*byte]);
        }
        assert_eq!(whole.closed.is_none(), taken, "{described_as} {fields:?}");
        let told = &whole.io.to_agent[head.len()..];
        match taken {
            true => assert_eq!(told, row),
            false => assert!(!contains(told, "x"), "{told:?}"),
        }
    }
    // A second result of the same query is described anew.
    let mut whole = Whole::at(At::Query);
    let first = [described(1), servers_sample(b'D'), servers_sample(b'C')].concat();
    whole.hear(&first);
    assert!(whole.closed.is_none());
    whole.hear(&servers_sample(b'D'));
    assert!(whole.closed.is_some());
}

#[test]
fn data_is_asked_for_by_a_copy_only() {
    let copy = |text: &str, answer: &[u8]| {
        let mut whole = Whole::at(At::Idle);
        whole.say(&query(text));
        whole.hear(answer);
        whole.closed.is_none()
    };
    let (copy_in, copy_out, both) = (
        servers_sample(b'G'),
        servers_sample(b'H'),
        servers_sample(b'W'),
    );
    assert!(copy("COPY orders FROM STDIN", &copy_in));
    assert!(copy("COPY orders TO STDOUT", &copy_out));
    for (text, answer) in [
        (GOOD, &copy_in),
        (GOOD, &copy_out),
        (GOOD, &both),
        ("COPY orders FROM STDIN", &copy_out),
        ("COPY orders FROM STDIN", &both),
        ("COPY orders TO STDOUT", &copy_in),
        ("COPY orders TO STDOUT", &both),
    ] {
        assert!(!copy(text, answer), "{text} {answer:?}");
    }
}

/// A message in the place of data would be lost; here it is not, and the COPY is over.
#[test]
fn a_message_in_the_place_of_data_ends_the_copy_and_then_counts() {
    let mut whole = Whole::at(At::Idle);
    let copy = query("COPY orders FROM STDIN");
    whole.say(&[copy.clone(), query(GOOD)].concat());
    let flush = frame(b'H', b"");
    assert_eq!(&whole.io.to_upstream.split()[..], [copy, flush].concat());
    whole.hear(&servers_sample(b'G'));
    let fail = whole.io.to_upstream.split();
    assert_eq!(fail.first(), Some(&b'f'));
    whole.hear(&[server_error("57014", "failed"), ready(b'I')].concat());
    assert_eq!(&whole.io.to_upstream.split()[..], query(GOOD));
    whole.hear(&[described(1), servers_sample(b'C'), ready(b'I')].concat());
    assert!(whole.closed.is_none());
    // A COPY that fails by itself is over as well.
    let mut whole = Whole::at(At::CopyIn);
    whole.hear(&[server_error("22P04", "bad"), ready(b'I')].concat());
    whole.say(&query(GOOD));
    assert_eq!(&whole.io.to_upstream.split()[..], query(GOOD));
}

/// Each length field at its edges, in each state that reads it.
#[test]
fn lengths_at_their_edges_in_every_state() {
    let limit = i32::try_from(settings().message_limit).expect("fits");
    let longest = i32::try_from(LONGEST_ANSWER).expect("fits");
    let lengths = [
        i32::MIN,
        -1,
        0,
        1,
        2,
        3,
        4,
        limit - 1,
        limit,
        longest - 1,
        longest,
        i32::MAX,
    ];
    for at in ALL {
        for length in lengths {
            for tag in *b"QPBEDCFHSdcfXZTR1\0" {
                let bytes = [&[tag][..], &length.to_be_bytes()].concat();
                let name = format!("{at:?} {:?} {length}", char::from(tag));
                let mut whole = Whole::at(at);
                whole.say(&bytes);
                let reads = agents_fate(at, b'S') == Taken;
                if reads && (length < 4 || length >= limit) {
                    assert!(whole.closed.is_some(), "agent, {name}");
                }
                whole.check(&name);
                let mut whole = Whole::at(at);
                if matches!(at, At::Start | At::Dialling) {
                    continue;
                }
                whole.hear(&bytes);
                let reads = servers_fate(at, b'N') != Waits && at != At::Row;
                let streams = matches!(tag, b'D' | b'd');
                if reads && (length < 4 || (length >= longest && !streams)) {
                    assert!(whole.closed.is_some(), "server, {name}");
                }
                whole.check(&name);
            }
        }
    }
}

#[test]
fn an_answer_that_nobody_asked_for_closes() {
    for at in ALL {
        for (number, answer) in answers().into_iter().enumerate() {
            let mut whole = Whole::at(at);
            whole.answer(answer);
            let asked = matches!(
                (at, number),
                (At::Dialling, 0) | (At::Handshake, 1) | (At::Vault, 2) | (At::Judging, 3)
            );
            assert_eq!(whole.closed.is_none(), asked, "{at:?} {number}");
            whole.check(&format!("{at:?} {number}"));
        }
    }
}
