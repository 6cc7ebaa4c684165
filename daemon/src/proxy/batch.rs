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
#[path = "batch_tests.rs"]
mod tests;
