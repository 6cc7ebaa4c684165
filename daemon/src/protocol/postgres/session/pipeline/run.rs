//! The account of one operation that the server runs.

use super::Kept;
use crate::policy::{Effect, Verb};
use crate::protocol::{Names, Outcome};

/// What the answer to an operation may be beside rows. An operation that the gate could
/// not read, and that somebody has allowed, may be anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Kind {
    /// Rows, or nothing.
    Plain,
    /// The agent's data may be asked for.
    CopyIn,
    CopyOut,
    Unknown,
}

impl Kind {
    fn of(effects: &[Effect]) -> Self {
        let has = |verb| effects.iter().any(|effect| effect.verb == verb);
        match (has(Verb::SqlCopyIn), has(Verb::SqlCopyOut)) {
            _ if has(Verb::SqlUnknown) => Self::Unknown,
            (true, true) => Self::Unknown,
            (true, false) => Self::CopyIn,
            (false, true) => Self::CopyOut,
            (false, false) => Self::Plain,
        }
    }
}

/// A running operation's account.
#[derive(Debug)]
pub(in super::super) struct Run {
    number: u64,
    pub(in super::super) rows: u64,
    pub(in super::super) bytes: u64,
    /// Rows that the server says a command touched; counts those sent as well.
    pub(in super::super) affected: u64,
    /// The operation, if it changes what names stand for.
    pub(super) operation: Option<Kept>,
    pub(in super::super) kind: Kind,
    /// Fields of the rows that come, where the server has described them in this answer.
    pub(super) fields: Option<u16>,
    /// Between CopyOutResponse and its CopyDone.
    pub(super) copying_out: bool,
    pub(super) sqlstate: Option<Box<str>>,
    /// The server has said how a command of it ended.
    pub(super) ended: bool,
}

impl Run {
    /// The run of the operation with this number; `effects` are what it was judged by.
    pub(in super::super) fn new(number: u64, operation: Kept, effects: &[Effect]) -> Self {
        Self {
            number,
            rows: 0,
            bytes: 0,
            affected: 0,
            kind: Kind::of(effects),
            fields: None,
            copying_out: false,
            operation: operation.names.changes().then_some(operation),
            sqlstate: None,
            ended: false,
        }
    }

    pub(super) fn may_copy_in(&self) -> bool {
        matches!(self.kind, Kind::CopyIn | Kind::Unknown)
    }

    pub(super) fn names(&self) -> Option<&Names> {
        self.operation.as_ref().map(|operation| &operation.names)
    }

    pub(super) fn outcome(self, skipped: bool) -> Outcome {
        Outcome {
            number: self.number,
            rows: self.rows.max(self.affected),
            bytes: self.bytes,
            sqlstate: self.sqlstate,
            skipped,
        }
    }
}
