//! Decisions that wait at the same time on one thread are recorded with one write.
//!
//! Each renders its line and waits; when every connection that was ready has had its turn,
//! all lines are written, and only then each goes on. Invariant: [`recorded`] returns after
//! the line is in the file, or with the error that kept it out. Nothing is held back for a
//! timer: the first line starts the round.

use std::cell::RefCell;
use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use crate::audit::{AuditError, AuditLog, Record};

/// Bytes that are kept for the next round.
const KEPT: usize = 64 * 1024;

#[derive(Default)]
struct Round {
    /// Counts the rounds that have ended.
    ended: u64,
    /// Why the last one could not be written.
    failed: Option<Arc<AuditError>>,
    lines: Vec<u8>,
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
    let number = ROUND.with_borrow_mut(|round| round.add(audit, record))?;
    poll_fn(|cx| ROUND.with_borrow_mut(|round| round.poll_ended(number, cx))).await
}

impl Round {
    /// Adds a line; the number of the round that it is in.
    fn add(&mut self, audit: &Arc<AuditLog>, record: &Record<'_>) -> Result<u64, Arc<AuditError>> {
        let before = self.lines.len();
        if let Err(error) = record.write_line(&mut self.lines) {
            self.lines.truncate(before);
            return Err(Arc::new(error.into()));
        }
        if before == 0 {
            let begun = self.begun.get_or_insert_with(|| {
                let begun = Arc::new(Notify::new());
                tokio::spawn(write(Arc::clone(audit), Arc::clone(&begun)));
                begun
            });
            begun.notify_one();
        }
        Ok(self.ended)
    }

    fn poll_ended(&mut self, number: u64, cx: &Context<'_>) -> Poll<Result<(), Arc<AuditError>>> {
        if self.ended == number {
            self.waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(match &self.failed {
            Some(error) => Err(Arc::clone(error)),
            None if self.ended == number + 1 => Ok(()),
            // It would have been told before the next round ended.
            None => Err(Arc::new(AuditError::Poisoned)),
        })
    }

    fn end(&mut self, audit: &AuditLog) -> Vec<Waker> {
        self.failed = audit.append_lines(&self.lines, None).err().map(Arc::new);
        self.ended += 1;
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
    use crate::audit::{Context, Event};

    /// Some that wait at once, on a thread of their own: what each is told.
    fn all_at_once(log: AuditLog, count: usize) -> Vec<bool> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.expect("runtime");
        let log = Arc::new(log);
        let one = |log: Arc<AuditLog>, body: usize| async move {
            let body = serde_json::json!({ "n": body });
            let context = Context::default();
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

    #[test]
    fn none_goes_on_when_the_disk_is_full() {
        let log = AuditLog::open(Path::new("/dev/full"), false).expect("open");
        assert_eq!(all_at_once(log, 5), [false; 5]);
    }
}
