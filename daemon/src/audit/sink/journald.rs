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

struct Entry {
    event: Event,
    fields: Vec<(&'static str, String)>,
    line: Vec<u8>,
}

pub(in super::super) struct Journal {
    queue: SyncSender<Entry>,
    dropped: AtomicU64,
}

impl Journal {
    /// The journal, if its socket is there.
    pub(in super::super) fn find() -> Option<Self> {
        if !Path::new(SD_JOURNAL_SOCK_PATH).exists() {
            return None;
        }
        let (queue, entries) = sync_channel::<Entry>(QUEUE);
        let sender = std::thread::Builder::new().name("journal".into());
        let run = move || entries.into_iter().for_each(|entry| send(&entry));
        sender.spawn(run).ok()?;
        Some(Self {
            queue,
            dropped: AtomicU64::new(0),
        })
    }

    /// Copies that were dropped.
    pub(in super::super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Queues a copy of the record; `line` is its JSON form.
    pub(in super::super) fn send(&self, record: &Record<'_>, line: Vec<u8>) {
        let fields = record.fields().cloned().collect();
        let entry = Entry {
            event: record.event(),
            fields,
            line,
        };
        if let Err(TrySendError::Full(_)) = self.queue.try_send(entry)
            && self.dropped.fetch_add(1, Ordering::Relaxed) == 0
        {
            tracing::warn!("the journal is too slow: copies are dropped, the file has them all");
        }
    }
}

fn send(entry: &Entry) {
    let priority = match entry.event {
        Event::ConnectionRefused | Event::GateRefused | Event::PolicyRejected => Priority::Warning,
        _ => Priority::Info,
    };
    let line = String::from_utf8_lossy(&entry.line);
    let fixed = [
        ("SYSLOG_IDENTIFIER", "portcullis-audit"),
        ("PORTCULLIS_EVENT", entry.event.name()),
    ];
    let own = entry
        .fields
        .iter()
        .map(|(name, value)| (*name, value.as_str()));
    // The file is the record of truth; a journal that went away loses its copies.
    let _ = journal_send(priority, line.trim_end(), fixed.into_iter().chain(own));
}
