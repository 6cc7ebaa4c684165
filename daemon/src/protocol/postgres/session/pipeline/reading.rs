//! Whether the gate still knows how the server will read the next text.
//!
//! A text's meaning hangs on settings (`standard_conforming_strings`, `client_encoding`)
//! whose changes the server reports, at the latest with ReadyForQuery. What is sent behind
//! an operation that may change them has to wait for that report; where the report can't
//! come before the text (the same batch, no Sync between), the text can't be judged.
//!
//! What was set once may come back with whatever runs, a rollback or a reset, and the server
//! need not ever have said so: it reports what has changed between two ReadyForQuery. From
//! then on a text that is read in two ways by these settings waits for every answer.

use super::{Entry, Expect, Pipeline};

/// Whether a text that comes now can be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Readable {
    Yes,
    /// After the ReadyForQuery that is under way.
    Wait,
    /// Not before a Sync.
    No,
}

/// Where the last change that may have been is reported.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reported {
    /// All are.
    #[default]
    Already,
    /// With the answer to the message of this number.
    With(u64),
    /// With the answer to a Sync that is not sent yet.
    Later,
}

impl Pipeline {
    /// The operation that was pushed last may change how texts are read.
    pub(in super::super) fn reading_may_change(&mut self) {
        self.unsteady = true;
        self.reported = match self.owed.back() {
            Some(entry) if matches!(entry.expect, Expect::Query(_)) => Reported::With(entry.number),
            _ => Reported::Later,
        };
    }

    /// A setting that reading depends on was another one than the gate reads by, as the
    /// server says.
    pub(in super::super) fn reading_was_other(&mut self) {
        self.unsteady = true;
    }

    /// Whether the settings that reading depends on are known. A `plain` text is read in the
    /// same way by all of them.
    pub(in super::super) fn readable(&self, plain: bool) -> Readable {
        let reported = match self.reported {
            Reported::Already => Readable::Yes,
            Reported::Later => Readable::No,
            Reported::With(number) if self.still_owed(number) => Readable::Wait,
            Reported::With(_) => Readable::Yes,
        };
        if plain || !self.unsteady {
            return reported;
        }
        reported.max(self.readable_when_quiet())
    }

    /// Where any operation may bring another setting back: once all has been answered.
    fn readable_when_quiet(&self) -> Readable {
        let brings_report = |entry: &Entry| matches!(entry.expect, Expect::Sync | Expect::Query(_));
        if self.ran_since_sync {
            Readable::No
        } else if self.owed.iter().any(brings_report) {
            Readable::Wait
        } else {
            Readable::Yes
        }
    }

    pub(super) fn still_owed(&self, number: u64) -> bool {
        self.owed
            .front()
            .is_some_and(|entry| entry.number <= number)
    }

    /// The message that would have brought the report will never be answered.
    pub(super) fn report_is_lost(&mut self) {
        self.reported = match self.owed.front() {
            Some(entry) if matches!(entry.expect, Expect::Sync) => Reported::With(entry.number),
            _ => Reported::Later,
        };
    }

    /// A Sync is sent; its number.
    pub(super) fn synced(&mut self, number: u64) {
        self.ran_since_sync = false;
        if self.reported == Reported::Later {
            self.reported = Reported::With(number);
        }
    }
}
