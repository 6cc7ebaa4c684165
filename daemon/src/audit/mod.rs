//! The audit log: every decision as one JSON line, written before the operation goes on.
//!
//! The file is the record of truth: [`AuditLog::append`] returns only when the line is
//! there, and its error means that nothing may go on. The journal gets a copy. What comes
//! after the fact ([`AuditLog::append_later`]) rides with the next line, or with
//! [`AuditLog::flush`]. Absent for now: hash chain and signature.
#![forbid(unsafe_code)]

mod flood;
mod record;
mod sink;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use thiserror::Error;

pub use flood::Flood;
pub use record::{
    ConnectionContext, Context, DecisionBody, DecisionText, Event, Judged, OutcomeBody, Record,
    RuleBody, SessionContext,
};
use sink::file::FileSink;
use sink::journald::Journal;
pub use sink::journald::JournalCopy;

/// The log can't be written.
#[derive(Debug, Error)]
pub enum AuditError {
    /// A system call failed.
    #[error("cannot {call} the audit log {path}: {source}")]
    File {
        /// What was tried.
        call: &'static str,
        /// The log.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A record has no JSON form; a bug.
    #[error("a record can't be written as JSON: {0}")]
    Encode(#[from] serde_json::Error),
    /// Another thread died while it held the log.
    #[error("the audit log was left in an unknown state")]
    Poisoned,
}

/// As much of a text from outside as a record repeats: so many characters.
pub fn shortened(text: &str, characters: usize) -> &str {
    let end = text.char_indices().nth(characters);
    end.map_or(text, |(end, _)| text.get(..end).unwrap_or_default())
}

/// Bytes that wait at most before late records are dropped (and counted).
const LATE_LIMIT: usize = 1024 * 1024;
/// Bytes that each thread keeps for the next line at most.
const LINE_KEPT: usize = 64 * 1024;

struct State {
    file: FileSink,
    /// Late lines, in order.
    late: Vec<u8>,
    late_dropped: u64,
    /// Writes that failed, since the start.
    failures: u64,
}

/// The open log.
pub struct AuditLog {
    state: Mutex<State>,
    journal: Option<Journal>,
}

impl AuditLog {
    /// Opens (or makes, mode 0600) the file; sends a copy to the journal if `journald` and
    /// its socket is there.
    pub fn open(path: &Path, journald: bool) -> Result<Self, AuditError> {
        let file = FileSink::open(path)?;
        let state = State {
            file,
            late: Vec::new(),
            late_dropped: 0,
            failures: 0,
        };
        let journal = if journald { Journal::find() } else { None };
        Ok(Self {
            state: Mutex::new(state),
            journal,
        })
    }

    /// Opens one whose journal is the other end of this queue.
    #[cfg(test)]
    pub(crate) fn open_with_journal(
        path: &Path,
        queue: std::sync::mpsc::SyncSender<JournalCopy>,
    ) -> Result<Self, AuditError> {
        Ok(Self {
            journal: Some(Journal::of_test(queue)),
            ..Self::open(path, false)?
        })
    }

    /// Whether the journal gets a copy.
    pub fn has_journal(&self) -> bool {
        self.journal.is_some()
    }

    /// How many writes have failed, and how many copies for the journal were dropped.
    pub fn failures(&self) -> (u64, u64) {
        let failed = self.state.lock().map_or(1, |state| state.failures);
        (failed, self.journal.as_ref().map_or(0, Journal::dropped))
    }

    /// Writes a record; when this returns, the line is in the file.
    pub fn append(&self, record: &Record<'_>) -> Result<(), AuditError> {
        with_line(record, |line| {
            self.append_lines(line, self.copy(record, line))
        })?
    }

    /// Writes whole lines, as [`Record::write_line`] makes them; then the journal gets their
    /// copies.
    pub fn append_lines(
        &self,
        lines: &[u8],
        copies: impl IntoIterator<Item = JournalCopy>,
    ) -> Result<(), AuditError> {
        let mut state = self.state.lock().map_err(|_| AuditError::Poisoned)?;
        let State {
            file,
            late,
            failures,
            ..
        } = &mut *state;
        file.append(late, lines).inspect_err(|_| *failures += 1)?;
        late.clear();
        self.send(copies);
        Ok(())
    }

    /// What the journal gets of a record whose line is this.
    pub fn copy(&self, record: &Record<'_>, line: &[u8]) -> Option<JournalCopy> {
        let copy = || JournalCopy::new(record, line.to_vec());
        self.journal.is_some().then(copy)
    }

    fn send(&self, copies: impl IntoIterator<Item = JournalCopy>) {
        if let Some(journal) = &self.journal {
            copies.into_iter().for_each(|copy| journal.send(copy));
        }
    }

    /// Queues a record of something that has already happened; it is written with the next
    /// [`Self::append`] or [`Self::flush`].
    pub fn append_later(&self, record: &Record<'_>) {
        let queue = |line: &[u8]| {
            let Ok(mut state) = self.state.lock() else {
                return true;
            };
            if state.late.len() + line.len() > LATE_LIMIT {
                return false;
            }
            state.late.extend_from_slice(line);
            self.send(self.copy(record, line));
            true
        };
        if !with_line(record, queue).unwrap_or(false)
            && let Ok(mut state) = self.state.lock()
        {
            state.late_dropped += 1;
        }
    }

    /// Writes what waits, and how many late records were lost while the log was full.
    pub fn flush(&self) -> Result<(), AuditError> {
        let mut state = self.state.lock().map_err(|_| AuditError::Poisoned)?;
        let State {
            file,
            late,
            late_dropped,
            failures,
            ..
        } = &mut *state;
        let waiting = late.len();
        if *late_dropped > 0 {
            let lost = Lost {
                records: *late_dropped,
            };
            Record::new(Event::RecordsLost, &Context::default(), &lost).write_line(late)?;
        }
        if !late.is_empty() {
            if let Err(error) = file.append(late, &[]) {
                *failures += 1;
                // The count may grow until it can be written.
                late.truncate(waiting);
                return Err(error);
            }
            late.clear();
            *late_dropped = 0;
        }
        Ok(())
    }

    /// Opens the file anew, after a log rotation has moved it away.
    pub fn reopen(&self) -> Result<(), AuditError> {
        self.flush()?;
        let mut state = self.state.lock().map_err(|_| AuditError::Poisoned)?;
        state.file = FileSink::open(state.file.path())?;
        Ok(())
    }
}

/// Renders a record before anybody has to wait for the log, in memory that each thread
/// keeps for it.
fn with_line<T>(record: &Record<'_>, work: impl FnOnce(&[u8]) -> T) -> Result<T, AuditError> {
    thread_local! {
        static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    let mut line = LINE.take();
    line.clear();
    record.write_line(&mut line)?;
    let done = work(&line);
    if line.capacity() <= LINE_KEPT {
        LINE.set(line);
    }
    Ok(done)
}

#[derive(serde::Serialize)]
struct Lost {
    records: u64,
}

#[cfg(test)]
mod tests;
