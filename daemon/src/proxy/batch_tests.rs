use std::path::Path;

use tokio::task::yield_now;

use super::*;
use crate::audit::{self, Event};

/// Some that wait at once, on a thread of their own: what each is told.
fn all_at_once(log: AuditLog, count: usize) -> Vec<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("runtime");
    let log = Arc::new(log);
    let one = |log: Arc<AuditLog>, body: usize| async move {
        let body = serde_json::json!({ "n": body });
        let context = audit::Context::default();
        let record = Record::new(Event::Decision, &context, &body);
        recorded(&log, &record).await.is_ok()
    };
    let all = async {
        let tasks: Vec<_> = (0..count)
            .map(|body| tokio::spawn(one(Arc::clone(&log), body)))
            .collect();
        let mut told = Vec::new();
        for task in tasks {
            told.push(task.await.expect("no panic"));
        }
        yield_now().await;
        told
    };
    let told = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(all)).join());
    told.expect("no panic")
}

#[test]
fn each_goes_on_when_its_line_is_in_the_file() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("audit.jsonl");
    let log = AuditLog::open(&path, false).expect("open");
    assert_eq!(all_at_once(log, 5), [true; 5]);
    let text = std::fs::read_to_string(&path).expect("log");
    let numbers = text.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        line["n"].as_u64().expect("a number")
    });
    assert_eq!(numbers.collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

/// All ways in which four rounds can end, and each waiter told as late as can be.
#[test]
fn each_is_told_what_became_of_its_own_line_however_late_it_asks() {
    const ROUNDS: usize = 4;
    let dir = tempfile::tempdir().expect("tempdir");
    let full = Arc::new(AuditLog::open(Path::new("/dev/full"), false).expect("open"));
    for (ends, late) in (0..1 << ROUNDS).flat_map(|ends| [(ends, false), (ends, true)]) {
        let path = dir.path().join(format!("{ends}-{late}.jsonl"));
        let log = Arc::new(AuditLog::open(&path, false).expect("open"));
        let mut round = Round {
            begun: Some(Arc::default()),
            ..Round::default()
        };
        let (mut waiting, mut told) = (Vec::new(), Vec::new());
        let cx = Context::from_waker(Waker::noop());
        for number in 0..ROUNDS {
            let body = serde_json::json!({ "n": number });
            let context = audit::Context::default();
            let record = Record::new(Event::Decision, &context, &body);
            let waiter = round.add(&log, &record).expect("JSON");
            assert!(round.poll_ended(&waiter, &cx).is_pending());
            round.end(if ends >> number & 1 == 0 { &full } else { &log });
            if late {
                waiting.push(waiter);
            } else {
                told.push(round.poll_ended(&waiter, &cx));
            }
        }
        told.extend(waiting.iter().map(|waiter| round.poll_ended(waiter, &cx)));
        let text = std::fs::read_to_string(&path).expect("log");
        for (number, told) in told.into_iter().enumerate() {
            let there = text.contains(&format!("\"n\":{number}}}"));
            let Poll::Ready(told) = told else {
                panic!("{number} waits for ever")
            };
            assert_eq!(told.is_ok(), there, "{number} of {ends:b}: {told:?}");
        }
    }
}

#[test]
fn the_journal_gets_what_is_in_the_file() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("audit.jsonl");
    for (file, told) in [(Path::new("/dev/full"), false), (&path, true)] {
        let (queue, copies) = std::sync::mpsc::sync_channel(100);
        let log = AuditLog::open_with_journal(file, queue).expect("open");
        assert_eq!(all_at_once(log, 5), [told; 5]);
        let copied: Vec<u8> = copies
            .try_iter()
            .flat_map(|copy| copy.line().to_vec())
            .collect();
        let there = if told {
            std::fs::read(file)
        } else {
            Ok(vec![])
        };
        assert_eq!(copied, there.expect("log"), "{told}");
    }
}

#[test]
fn none_goes_on_when_the_disk_is_full() {
    let log = AuditLog::open(Path::new("/dev/full"), false).expect("open");
    assert_eq!(all_at_once(log, 5), [false; 5]);
}
