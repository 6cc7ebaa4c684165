//! What the server still owes, in order, and what each statement and portal name stands for.
//!
//! The server answers in order and, after an error in the extended protocol, skips to
//! Sync (manual 55.2.3). Invariant: an operation that [`Pipeline::statement`] or
//! [`Pipeline::portal`] returns is the one that the server would run; an answer that does
//! not fit the queue is [`OutOfOrder`] and ends the session, so that the two never part.

mod data;
mod kept;
mod names;
mod reading;
mod run;

use std::collections::{HashMap, VecDeque};

use crate::protocol::Outcome;
use crate::protocol::postgres::codec::message::ErrorMessage;
pub(super) use kept::{Account, Kept};
pub(super) use names::Lookup;
use names::Portal;
pub(super) use reading::Readable;
use reading::Reported;
pub(super) use run::Run;

/// Unanswered messages that one connection may have; more have to wait.
const OWED_LIMIT: usize = 4096;
/// Names that one connection may hold; libpq's own tests stay far below.
const NAMES_LIMIT: usize = 50_000;
/// Bytes that the operations of one connection may take.
const BYTES_LIMIT: usize = 64 * 1024 * 1024;

/// One message whose answer is outstanding.
#[derive(Debug)]
pub(super) enum Expect {
    /// Simple query or function call: ends with ReadyForQuery.
    Query(Run),
    Execute(Run),
    Parse {
        name: Box<[u8]>,
        operation: Kept,
    },
    Bind {
        portal: Box<[u8]>,
        operation: Option<Kept>,
    },
    Describe,
    CloseStatement(Box<[u8]>),
    ClosePortal(Box<[u8]>),
    Sync,
    /// CopyDone or CopyFail: no answer of its own.
    CopyEnd,
}

#[derive(Debug)]
struct Entry {
    /// Counts from 0.
    number: u64,
    expect: Expect,
    denied: Option<Box<ErrorMessage>>,
}

/// Whether there is room for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    Room,
    /// Since now: the server may still keep answers back, ask for them.
    JustFull,
    Full,
}

/// The server did not answer in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OutOfOrder;

/// The queue and the names.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    owed: VecDeque<Entry>,
    pushed: u64,
    statements: HashMap<Box<[u8]>, Kept>,
    portals: HashMap<Box<[u8]>, Portal>,
    account: Account,
    /// The server skips what comes before the next Sync: after its own error, or after
    /// one that a decoy is about to cause.
    skipping: bool,
    copying_in: bool,
    full: bool,
    reported: Reported,
    /// See [`Pipeline::reading_was_other`].
    unsteady: bool,
    /// The last message pushed that may change what a statement name stands for.
    last_naming: Option<u64>,
    /// An Execute went up since the last message that is answered with ReadyForQuery.
    ran_since_sync: bool,
}

impl Pipeline {
    /// Whether the server will skip what is sent now.
    pub(super) fn skipping(&self) -> bool {
        self.skipping
    }

    /// Whether the server takes what is sent now as data, or ends of data, of a COPY.
    pub(super) fn copying_in(&self) -> bool {
        self.copying_in
    }

    /// The number of the next message whose answer is outstanding; none if all is answered.
    pub(super) fn next(&self) -> Option<u64> {
        let mut owed = self.owed.iter();
        let next = owed.find(|entry| !matches!(entry.expect, Expect::CopyEnd));
        next.map(|entry| entry.number)
    }

    /// Whether more messages have to wait until some of the owed ones are answered.
    pub(super) fn fill(&mut self) -> Fill {
        let limit = match self.full {
            true => OWED_LIMIT / 2,
            false => OWED_LIMIT,
        };
        let heavy = self.account.bytes() > BYTES_LIMIT && !self.owed.is_empty();
        let was_full = std::mem::replace(&mut self.full, heavy || self.owed.len() > limit);
        match (was_full, self.full) {
            (_, false) => Fill::Room,
            (false, true) => Fill::JustFull,
            (true, true) => Fill::Full,
        }
    }

    /// Whether it holds too much even when all is answered.
    pub(super) fn is_overfull(&self) -> bool {
        self.statements.len() + self.portals.len() > NAMES_LIMIT
            || (self.owed.is_empty() && self.account.bytes() > BYTES_LIMIT)
    }

    /// The account that the operations of this connection are kept on.
    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// A message went to the server.
    pub(super) fn push(&mut self, expect: Expect) {
        match expect {
            // In copy-in mode the server ignores Sync (manual 55.2.3).
            Expect::Sync if self.copying_in => return,
            Expect::Sync => {
                self.skipping = false;
                self.synced(self.pushed);
            }
            // The end of the COPY that has begun already.
            Expect::CopyEnd if self.copying_in => {
                self.copying_in = false;
                return;
            }
            Expect::Query(_) => self.ran_since_sync = false,
            Expect::Execute(_) => self.ran_since_sync = true,
            _ => {}
        }
        self.enter(expect, None);
    }

    /// A decoy went to the server; the agent shall see `error`.
    pub(super) fn push_denied(&mut self, expect: Expect, error: ErrorMessage) {
        self.skipping |= !matches!(expect, Expect::Query(_));
        self.enter(expect, Some(Box::new(error)));
    }

    fn enter(&mut self, expect: Expect, denied: Option<Box<ErrorMessage>>) {
        let number = self.pushed;
        self.pushed += 1;
        if names::may_name_statements(&expect) {
            self.last_naming = Some(number);
        }
        self.owed.push_back(Entry {
            number,
            expect,
            denied,
        });
    }

    /// The operation that the server is answering.
    pub(super) fn running(&mut self) -> Option<&mut Run> {
        match self.front() {
            Some(Expect::Query(run) | Expect::Execute(run)) => Some(run),
            _ => None,
        }
    }

    /// ParseComplete, BindComplete or CloseComplete.
    pub(super) fn completed(&mut self, tag: u8) -> Result<(), OutOfOrder> {
        match (tag, self.pop()) {
            (b'1', Some(Expect::Parse { name, operation })) => {
                self.statements.insert(name, operation);
            }
            (b'2', Some(Expect::Bind { portal, operation })) => {
                let hold = false;
                match operation.map(|operation| Portal { operation, hold }) {
                    Some(bound) => self.portals.insert(portal, bound),
                    None => self.portals.remove(&portal),
                };
            }
            (b'3', Some(Expect::CloseStatement(name))) => {
                self.statements.remove(&name);
            }
            (b'3', Some(Expect::ClosePortal(name))) => {
                self.portals.remove(&name);
            }
            _ => return Err(OutOfOrder),
        }
        Ok(())
    }

    /// RowDescription with so many fields, or NoData: the last answer to a Describe, or the
    /// former in a query's.
    pub(super) fn described(&mut self, fields: Option<u16>) -> Result<(), OutOfOrder> {
        match self.front() {
            Some(Expect::Describe) => {
                self.owed.pop_front();
                Ok(())
            }
            Some(Expect::Query(run)) if fields.is_some() && !run.copying_out => {
                run.fields = fields;
                Ok(())
            }
            _ => Err(OutOfOrder),
        }
    }

    /// ParameterDescription: the first answer to a Describe of a statement.
    pub(super) fn parameters_described(&mut self) -> Result<(), OutOfOrder> {
        match self.front() {
            Some(Expect::Describe) => Ok(()),
            _ => Err(OutOfOrder),
        }
    }

    /// CommandComplete, EmptyQueryResponse, PortalSuspended or FunctionCallResponse: ends
    /// an Execute.
    pub(super) fn command_ended(&mut self, tag: u8) -> Result<Option<Outcome>, OutOfOrder> {
        match self.front() {
            Some(Expect::Query(run) | Expect::Execute(run)) if run.copying_out => Err(OutOfOrder),
            Some(Expect::Query(run)) if tag != b's' => {
                run.ended = true;
                run.fields = None;
                Ok(None)
            }
            Some(Expect::Execute(_)) if tag != b'V' => match self.pop() {
                Some(Expect::Execute(run)) => {
                    self.settle(&run);
                    Ok(Some(run.outcome(false)))
                }
                _ => Err(OutOfOrder),
            },
            _ => Err(OutOfOrder),
        }
    }

    /// CopyInResponse: it ends with the next CopyDone or CopyFail, and
    /// the server ignores each Sync before that.
    pub(super) fn copy_in_began(&mut self) -> Result<(), OutOfOrder> {
        match self.running() {
            Some(run) if run.may_copy_in() && !run.copying_out => {}
            _ => return Err(OutOfOrder),
        }
        let is_end = |entry: &Entry| matches!(entry.expect, Expect::CopyEnd);
        let end = self.owed.iter().position(is_end);
        self.copying_in = end.is_none();
        let upto = end.map_or(self.owed.len(), |end| end + 1);
        let behind = self.owed.split_off(upto);
        let (reported, mut lost) = (self.reported, false);
        let ran = &mut self.ran_since_sync;
        self.owed.retain(|entry| {
            let ignored = matches!(entry.expect, Expect::Sync);
            lost |= ignored && reported == Reported::With(entry.number);
            *ran |= ignored;
            !ignored && !is_end(entry)
        });
        self.owed.extend(behind);
        if lost {
            self.reported = Reported::Later;
        }
        Ok(())
    }

    /// The denial that a decoy's error stands for.
    pub(super) fn take_denial(&mut self) -> Option<Box<ErrorMessage>> {
        self.drop_copy_ends();
        self.owed.front_mut().and_then(|entry| entry.denied.take())
    }

    /// ErrorResponse: ends or marks the front; in the extended protocol the server skips
    /// to Sync. Returns what ended, first the one that failed.
    pub(super) fn failed(&mut self, sqlstate: &str) -> Result<Vec<Outcome>, OutOfOrder> {
        self.copying_in = false;
        match self.front() {
            Some(Expect::Query(run)) => {
                run.sqlstate = Some(sqlstate.into());
                run.ended = true;
                run.copying_out = false;
                return Ok(Vec::new());
            }
            // The transaction could not be committed.
            Some(Expect::Sync) => return Ok(Vec::new()),
            None => return Err(OutOfOrder),
            Some(Expect::Parse { name, .. }) if name.is_empty() => {
                self.statements.remove(&b""[..]);
            }
            Some(_) => {}
        }
        Ok(self.skip_to_sync(sqlstate))
    }

    fn skip_to_sync(&mut self, sqlstate: &str) -> Vec<Outcome> {
        let mut ended = Vec::new();
        let (mut first, mut lost) = (true, false);
        while let Some(entry) = self.owed.front()
            && !matches!(entry.expect, Expect::Sync)
        {
            lost |= self.reported == Reported::With(entry.number);
            let sqlstate = first.then(|| sqlstate.into());
            let expect = self.owed.pop_front().map(|entry| entry.expect);
            if let Some(Expect::Query(mut run) | Expect::Execute(mut run)) = expect {
                run.sqlstate.clone_from(&sqlstate);
                if first {
                    self.settle(&run);
                }
                ended.push(Outcome {
                    sqlstate,
                    ..run.outcome(!first)
                });
            }
            first = false;
        }
        self.skipping |= self.owed.is_empty();
        if lost {
            self.report_is_lost();
        }
        ended
    }

    /// ReadyForQuery with its transaction status: ends a query or a Sync.
    pub(super) fn ready(&mut self, status: u8) -> Result<Option<Outcome>, OutOfOrder> {
        let outcome = match self.pop() {
            Some(Expect::Sync) => None,
            // Without an answer to it, this is the end of something else.
            Some(Expect::Query(run)) if run.ended => {
                self.statements.remove(&b""[..]);
                self.settle(&run);
                Some(run.outcome(false))
            }
            _ => return Err(OutOfOrder),
        };
        // Portals live in a transaction.
        if status == b'I' {
            self.portals.retain(|_, portal| portal.hold);
        }
        Ok(outcome)
    }

    /// Everything that will never be answered, because the upstream is gone.
    pub(super) fn abandon(&mut self) -> Vec<Outcome> {
        let owed = std::mem::take(&mut self.owed);
        let runs = owed.into_iter().filter_map(|entry| match entry.expect {
            Expect::Query(run) | Expect::Execute(run) => Some(run),
            _ => None,
        });
        runs.map(|run| Outcome {
            sqlstate: Some("08006".into()),
            ..run.outcome(false)
        })
        .collect()
    }

    fn front(&mut self) -> Option<&mut Expect> {
        self.drop_copy_ends();
        self.owed.front_mut().map(|entry| &mut entry.expect)
    }

    fn pop(&mut self) -> Option<Expect> {
        self.drop_copy_ends();
        self.owed.pop_front().map(|entry| entry.expect)
    }

    /// An end of data that no COPY was waiting for has no answer.
    fn drop_copy_ends(&mut self) {
        while matches!(
            self.owed.front(),
            Some(Entry {
                expect: Expect::CopyEnd,
                ..
            })
        ) {
            self.owed.pop_front();
        }
    }
}
