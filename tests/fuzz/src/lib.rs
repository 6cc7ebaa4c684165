//! What the fuzz targets do, and the invariants that they assert.
//!
//! A session is driven through its public interface with a policy that denies each text with
//! the word `forbidden` in it; [`watch::Watch`] reads what goes up. The server is either the
//! fuzzer, which lies as it likes, or [`server::Server`], which answers as PostgreSQL does:
//! with that one the gate must never fall out of step.

mod drive;
mod script;
mod server;
mod watch;

use arbitrary::{Arbitrary, Unstructured};
use portcullis::protocol::Answer;
use portcullis::protocol::postgres::codec::{self, Fields, startup as packets};

use drive::{Drive, Seen};
use script::Move;

/// The first byte says where the rest is cut in two: nothing may hang on that.
fn cut(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    rest.split_at(usize::from(*first).min(rest.len()))
}

/// Whether the fuzzer has found a decoy's mark in our own memory: nobody else could know it.
fn cheats(bytes: &[u8]) -> bool {
    let mark = watch::DECOY;
    bytes.windows(mark.len()).any(|part| part == mark)
}

/// Start-up packets: the codec, and a session that is not connected yet.
pub fn startup(bytes: &[u8]) {
    let (head, tail) = cut(bytes);
    let all = [head, tail].concat();
    if let Ok(Some((_, len))) = packets::read(&all) {
        assert!(len <= all.len() && len <= packets::MAX_STARTUP);
        for cut in 0..len {
            assert_eq!(packets::read(&all[..cut]), Ok(None), "cut at {cut}");
        }
    }
    let run = |parts: &[&[u8]]| {
        let mut drive = Drive::undialled();
        for part in parts {
            drive.agent(part);
        }
        assert!(drive.io.to_upstream.is_empty(), "said before it is dialled");
        (drive.seen(), drive.tls)
    };
    let (twice, once) = (run(&[head, tail]), run(&[&all]));
    // What has come in the clear together with a wish for TLS is refused, and only then.
    if !once.1 && !twice.1 {
        assert_eq!(twice.0, once.0, "it hangs on the cut");
    }
}

/// The codec: frames and fields of any bytes.
fn frames(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some(frame)) = codec::whole(rest, 10_000) {
        let (message, behind) = rest.split_at(frame.len);
        assert_eq!(message.first(), Some(&frame.tag));
        for cut in 0..message.len().min(64) {
            assert_eq!(codec::whole(&message[..cut], 10_000), Ok(None));
        }
        let mut fields = Fields::of_frame(message);
        for step in 0..message.len() {
            let before = fields.rest().len();
            let took = match step % 4 {
                0 => fields.int32().is_ok(),
                1 => fields.bytes().is_ok(),
                2 => fields.byte().is_ok(),
                _ => fields.text().is_ok(),
            };
            assert!(fields.rest().len() <= before);
            assert!(!took || fields.rest().len() < before);
        }
        rest = behind;
    }
}

/// An agent that says anything, to a server that answers as PostgreSQL does.
pub fn frontend(bytes: &[u8]) {
    if cheats(bytes) {
        return;
    }
    frames(bytes);
    let (head, tail) = cut(bytes);
    let mut drive = Drive::logged_in();
    drive.agent(head);
    drive.serve_all(0);
    drive.agent(tail);
    drive.serve_all(1);
    assert!(!drive.blames_upstream(), "{:?}", drive.closed);
}

/// A server that says anything: while the gate logs in, and once it is in.
pub fn backend(bytes: &[u8]) {
    if cheats(bytes) {
        return;
    }
    frames(bytes);
    let (head, tail) = cut(bytes);
    let all = [head, tail].concat();
    let login = |parts: &[&[u8]]| {
        let mut drive = Drive::introduced();
        for part in parts {
            drive.upstream(part);
        }
        drive.seen()
    };
    let (once, twice) = (login(&[&all]), login(&[head, tail]));
    assert_eq!(once, twice, "the login hangs on the cut");
    let work = |parts: &[&[u8]]| {
        let mut drive = Drive::logged_in();
        // None of them waits for an answer: a server that gives one too early is noticed.
        drive.agent(&script::query("SELECT * FROM orders"));
        drive.agent(&script::batch("SELECT * FROM orders"));
        drive.agent(&script::query("COPY orders FROM STDIN"));
        for part in parts {
            drive.upstream(part);
        }
        drive.seen()
    };
    let (once, twice): (Seen, Seen) = (work(&[&all]), work(&[head, tail]));
    assert_eq!(once, twice, "the session hangs on the cut");
}

/// Both sides at once, a move at a time.
pub fn session(bytes: &[u8]) {
    if cheats(bytes) {
        return;
    }
    let mut from = Unstructured::new(bytes);
    let mut drive = Drive::logged_in();
    let mut honest = true;
    while !from.is_empty() && drive.closed.is_none() {
        let Ok(next) = Move::arbitrary(&mut from) else {
            break;
        };
        match next {
            Move::Says(message) => drive.agent(&message.bytes()),
            Move::SaysRaw(bytes) => drive.agent(&bytes),
            Move::Serves(choice) => drive.serve(choice),
            Move::ServesAll(choice) => drive.serve_all(choice),
            Move::Lies(answer) => {
                honest = false;
                drive.upstream(&answer.bytes());
            }
            Move::LiesRaw(bytes) => {
                honest = false;
                drive.upstream(&bytes);
            }
            Move::RecordBreaks => drive.recorded = !drive.recorded,
            Move::Impertinent => drive.answer(Answer::Dialled),
        }
    }
    if honest {
        assert!(!drive.blames_upstream(), "{:?}", drive.closed);
        drive.serve_all(0);
        assert!(!drive.blames_upstream(), "{:?}", drive.closed);
    }
}
