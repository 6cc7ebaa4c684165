//! The account of one operation that the server runs.

use super::Kept;
use crate::protocol::{Names, Outcome};

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
    pub(super) sqlstate: Option<Box<str>>,
    /// The server has said how a command of it ended.
    pub(super) ended: bool,
}

impl Run {
    /// The run of the operation with this number.
    pub(in super::super) fn new(number: u64, operation: Kept) -> Self {
        Self {
            number,
            rows: 0,
            bytes: 0,
            affected: 0,
            operation: operation.names.changes().then_some(operation),
            sqlstate: None,
            ended: false,
        }
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
