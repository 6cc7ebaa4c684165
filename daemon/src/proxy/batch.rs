//! Decisions that wait at the same time on one thread are recorded with one write.
//!
//! Each renders its line and waits; when every connection that was ready has had its turn,
//! all lines are written, and only then each goes on. Invariant: [`recorded`] returns after
//! the line is in the file, or with the error that kept it out. The journal gets its copies
//! behind that. Nothing is held back for a timer: the first line starts the round.

use std::cell::RefCell;
use std::future::poll_fn;
use std::mem;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use crate::audit::{AuditError, AuditLog, JournalCopy, Record};

/// Bytes that are kept for the next round.
const KEPT: usize = 64 * 1024;

/// What became of a round, once it has ended; those who wait for it keep it, so that no
/// other round's end can be taken for it.
type End = Arc<OnceLock<Result<(), Arc<AuditError>>>>;

#[derive(Default)]
struct Round {
    end: End,
    lines: Vec<u8>,
    /// What the journal gets of them, once they are written.
    copies: Vec<JournalCopy>,
    waiting: Vec<Waker>,
    /// Tells the thread's writer that a round has begun; none before the first.
    begun: Option<Arc<Notify>>,
}

thread_local! {
    static ROUND: RefCell<Round> = RefCell::default();
}

/// Writes the record together with those that others on this thread write now.
///
/// # Errors
/// None of them could be written.
pub(super) async fn recorded(
    audit: &Arc<AuditLog>,
    record: &Record<'_>,
) -> Result<(), Arc<AuditError>> {
    let end = ROUND.with_borrow_mut(|round| round.add(audit, record))?;
    poll_fn(|cx| ROUND.with_borrow_mut(|round| round.poll_ended(&end, cx))).await
}

impl Round {
    /// Adds a line; the end of the round that it is in.
    fn add(&mut self, audit: &Arc<AuditLog>, record: &Record<'_>) -> Result<End, Arc<AuditError>> {
        let before = self.lines.len();
        if let Err(error) = record.write_line(&mut self.lines) {
            self.lines.truncate(before);
            return Err(Arc::new(error.into()));
        }
        let line = self.lines.get(before..).unwrap_or_default();
        self.copies.extend(audit.copy(record, line));
        if before == 0 {
            let begun = self.begun.get_or_insert_with(|| {
                let begun = Arc::new(Notify::new());
                tokio::spawn(write(Arc::clone(audit), Arc::clone(&begun)));
                begun
            });
            begun.notify_one();
        }
        Ok(Arc::clone(&self.end))
    }

    fn poll_ended(&mut self, end: &End, cx: &Context<'_>) -> Poll<Result<(), Arc<AuditError>>> {
        match end.get() {
            Some(ended) => Poll::Ready(ended.clone()),
            None => {
                self.waiting.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn end(&mut self, audit: &AuditLog) -> Vec<Waker> {
        let written = audit.append_lines(&self.lines, mem::take(&mut self.copies));
        let written = written.map_err(Arc::new);
        // Set nowhere else, and taken away with it.
        let _ = mem::take(&mut self.end).set(written);
        self.lines.clear();
        self.lines.shrink_to(KEPT);
        mem::take(&mut self.waiting)
    }
}

/// The writer of a thread. Told of a round, it is put behind all connections that are ready.
async fn write(audit: Arc<AuditLog>, begun: Arc<Notify>) {
    loop {
        begun.notified().await;
        let waiting = ROUND.with_borrow_mut(|round| round.end(&audit));
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
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
            let mut cx = Context::from_waker(Waker::noop());
            for number in 0..ROUNDS {
                let body = serde_json::json!({ "n": number });
                let context = audit::Context::default();
                let record = Record::new(Event::Decision, &context, &body);
                let waiter = round.add(&log, &record).expect("JSON");
                assert!(round.poll_ended(&waiter, &mut cx).is_pending());
                round.end(if ends >> number & 1 == 0 { &full } else { &log });
                if late {
                    waiting.push(waiter);
                } else {
                    told.push(round.poll_ended(&waiter, &mut cx));
                }
            }
            told.extend(
                waiting
                    .iter()
                    .map(|waiter| round.poll_ended(waiter, &mut cx)),
            );
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
}
