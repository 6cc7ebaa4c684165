//! A copy for systemd-journald, with fields that `journalctl` can filter by
//! (`PORTCULLIS_EVENT=decision`, `PORTCULLIS_PRINCIPAL=...`).
//!
//! Sent by a thread of its own through a bounded queue: a journal that hangs can't hold
//! up a connection. What does not fit is dropped here and is still in the file.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use libsystemd::logging::{Priority, SD_JOURNAL_SOCK_PATH, journal_send};

use super::super::record::{Event, Record};

const QUEUE: usize = 4096;

/// What the journal gets of one record.
pub struct JournalCopy {
    event: Event,
    fields: Vec<(&'static str, String)>,
    line: Vec<u8>,
}

impl JournalCopy {
    /// `line` is the record's JSON form.
    pub(in super::super) fn new(record: &Record<'_>, line: Vec<u8>) -> Self {
        Self {
            event: record.event(),
            fields: record.fields().cloned().collect(),
            line,
        }
    }

    #[cfg(test)]
    pub(crate) fn line(&self) -> &[u8] {
        &self.line
    }
}

pub(in super::super) struct Journal {
    queue: SyncSender<JournalCopy>,
    dropped: AtomicU64,
}

impl Journal {
    /// The journal, if its socket is there.
    pub(in super::super) fn find() -> Option<Self> {
        if !Path::new(SD_JOURNAL_SOCK_PATH).exists() {
            return None;
        }
        let (queue, entries) = sync_channel::<JournalCopy>(QUEUE);
        let sender = std::thread::Builder::new().name("journal".into());
        let run = move || entries.into_iter().for_each(|copy| send(&copy));
        sender.spawn(run).ok()?;
        Some(Self {
            queue,
            dropped: AtomicU64::new(0),
        })
    }

    /// A journal that is read by a test.
    #[cfg(test)]
    pub(in super::super) fn of_test(queue: SyncSender<JournalCopy>) -> Self {
        Self {
            queue,
            dropped: AtomicU64::new(0),
        }
    }

    /// Copies that were dropped.
    pub(in super::super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Queues a copy.
    pub(in super::super) fn send(&self, copy: JournalCopy) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(copy)
            && self.dropped.fetch_add(1, Ordering::Relaxed) == 0
        {
            tracing::warn!("the journal is too slow: copies are dropped, the file has them all");
        }
    }
}

fn send(copy: &JournalCopy) {
    let priority = match copy.event {
        Event::ConnectionRefused | Event::GateRefused | Event::PolicyRejected => Priority::Warning,
        _ => Priority::Info,
    };
    let line = String::from_utf8_lossy(&copy.line);
    let fixed = [
        ("SYSLOG_IDENTIFIER", "portcullis-audit"),
        ("PORTCULLIS_EVENT", copy.event.name()),
    ];
    let own = copy
        .fields
        .iter()
        .map(|(name, value)| (*name, value.as_str()));
    // The file is the record of truth; a journal that went away loses its copies.
    let _ = journal_send(priority, line.trim_end(), fixed.into_iter().chain(own));
}
