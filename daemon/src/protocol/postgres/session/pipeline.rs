//! What the server still owes, in order, and which operation each statement and portal
//! name stands for.
//!
//! The server answers in order and, after an error in the extended protocol, skips to
//! Sync (manual 55.2.3). Names are believed only once the server has confirmed them; a
//! name that an unanswered batch may still change makes the caller wait. Invariant: an
//! operation that [`Pipeline::statement`] or [`Pipeline::portal`] returns is the one that
//! the server would run.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::protocol::postgres::codec::message::ErrorMessage;
use crate::protocol::{NameKind, Names, Operation, Outcome};

/// A running operation's account.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) number: u64,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// Rows that the server says a command touched; counts those sent as well.
    pub(super) affected: u64,
    /// The operation, if it changes what names stand for.
    names: Option<Arc<Operation>>,
    sqlstate: Option<Box<str>>,
}

impl Run {
    pub(super) fn new(number: u64, operation: &Arc<Operation>) -> Self {
        let names = operation.names.changes().then(|| Arc::clone(operation));
        Self {
            number,
            names,
            ..Self::default()
        }
    }

    fn names(&self) -> Option<&Names> {
        self.names.as_ref().map(|operation| &operation.names)
    }

    fn outcome(self, skipped: bool) -> Outcome {
        Outcome {
            number: self.number,
            rows: self.rows.max(self.affected),
            bytes: self.bytes,
            sqlstate: self.sqlstate,
            skipped,
        }
    }
}

/// One message whose answer is outstanding.
#[derive(Debug)]
pub(super) enum Expect {
    /// Simple query or function call: ends with ReadyForQuery.
    Query(Run),
    Execute(Run),
    Parse {
        name: Box<[u8]>,
        operation: Arc<Operation>,
    },
    Bind {
        portal: Box<[u8]>,
        operation: Option<Arc<Operation>>,
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
    expect: Expect,
    denied: Option<Box<ErrorMessage>>,
}

#[derive(Debug)]
struct Portal {
    operation: Arc<Operation>,
    /// It outlives its transaction.
    hold: bool,
}

/// What a name stands for.
#[derive(Debug)]
pub(super) enum Lookup {
    Known(Arc<Operation>),
    Unknown,
    /// An unanswered batch may still change it: ask again after the next ReadyForQuery.
    Wait,
}

/// The server did not answer in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OutOfOrder;

/// The queue and the names.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    owed: VecDeque<Entry>,
    statements: HashMap<Box<[u8]>, Arc<Operation>>,
    portals: HashMap<Box<[u8]>, Portal>,
    /// The server skips what comes before the next Sync: after its own error, or after
    /// one that a decoy is about to cause.
    skipping: bool,
    copying_in: bool,
}

impl Pipeline {
    /// Whether the server will skip what is sent now.
    pub(super) fn skipping(&self) -> bool {
        self.skipping
    }

    /// How many messages are owed an answer.
    pub(super) fn len(&self) -> usize {
        self.owed.len()
    }

    /// How many names are held.
    pub(super) fn names(&self) -> usize {
        self.statements.len() + self.portals.len()
    }

    /// A message went to the server.
    pub(super) fn push(&mut self, expect: Expect) {
        match expect {
            Expect::Sync => {
                // In copy-in mode the server ignores Sync (manual 55.2.3).
                if self.copying_in {
                    return;
                }
                self.skipping = false;
            }
            Expect::CopyEnd => self.copying_in = false,
            _ => {}
        }
        self.owed.push_back(Entry {
            expect,
            denied: None,
        });
    }

    /// A decoy went to the server; the agent shall see `error`.
    pub(super) fn push_denied(&mut self, expect: Expect, error: ErrorMessage) {
        self.skipping |= !matches!(expect, Expect::Query(_));
        self.owed.push_back(Entry {
            expect,
            denied: Some(Box::new(error)),
        });
    }

    /// The operation of a statement name, as the next Bind would use it.
    pub(super) fn statement(&self, name: &[u8]) -> Lookup {
        let mut earlier_batch = false;
        for entry in self.owed.iter().rev() {
            let change = match &entry.expect {
                Expect::Sync => {
                    earlier_batch = true;
                    continue;
                }
                Expect::Parse {
                    name: parsed,
                    operation,
                } if **parsed == *name => Lookup::Known(Arc::clone(operation)),
                Expect::CloseStatement(closed) if **closed == *name => Lookup::Unknown,
                // A simple query drops the unnamed statement.
                Expect::Query(_) if name.is_empty() => Lookup::Unknown,
                // Its ReadyForQuery is sure to come.
                Expect::Query(run) if run.names().is_some_and(|n| n.statements.has(name)) => {
                    Lookup::Wait
                }
                Expect::Execute(run) if run.names().is_some_and(|n| n.statements.has(name)) => {
                    Lookup::Unknown
                }
                _ => continue,
            };
            return if earlier_batch { Lookup::Wait } else { change };
        }
        found(self.statements.get(name))
    }

    /// The operation of a portal name, as the next Execute would run it.
    pub(super) fn portal(&self, name: &[u8]) -> Lookup {
        let mut earlier_batch = false;
        for entry in self.owed.iter().rev() {
            let change = match &entry.expect {
                Expect::Sync => {
                    earlier_batch = true;
                    continue;
                }
                Expect::Bind { portal, operation } if **portal == *name => {
                    found(operation.as_ref())
                }
                Expect::ClosePortal(closed) if **closed == *name => Lookup::Unknown,
                // A simple query may end the transaction, and every portal with it; its
                // ReadyForQuery is sure to come.
                Expect::Query(_) => Lookup::Wait,
                Expect::Execute(run) if run.names().is_some_and(|n| n.cursors.has(name)) => {
                    Lookup::Unknown
                }
                _ => continue,
            };
            return if earlier_batch { Lookup::Wait } else { change };
        }
        // A Sync that is not answered yet may end the transaction too.
        if earlier_batch {
            Lookup::Wait
        } else {
            found(self.portals.get(name).map(|portal| &portal.operation))
        }
    }

    /// Whether an unanswered earlier batch, or this one, may already have made `name`.
    pub(super) fn parse_must_wait(&self, name: &[u8]) -> bool {
        !name.is_empty() && matches!(self.statement(name), Lookup::Wait)
    }

    /// A run has ended: names that its text made stand for it, those it dropped for nothing.
    /// After an error each name that it might have changed stands for nothing.
    fn settle(&mut self, run: &Run) {
        let Some(operation) = &run.names else {
            return;
        };
        let names = &operation.names;
        self.statements
            .retain(|name, _| !names.statements.has(name));
        self.portals.retain(|name, _| !names.cursors.has(name));
        if run.sqlstate.is_some() {
            return;
        }
        match &names.defines {
            Some((NameKind::Statement, name)) => {
                let name = name.as_bytes().into();
                self.statements.insert(name, Arc::clone(operation));
            }
            Some((NameKind::Cursor { hold }, name)) => {
                let (operation, hold) = (Arc::clone(operation), *hold);
                let portal = Portal { operation, hold };
                self.portals.insert(name.as_bytes().into(), portal);
            }
            None => {}
        }
    }

    /// The operation that the server is answering.
    pub(super) fn running(&mut self) -> Option<&mut Run> {
        self.drop_copy_ends();
        match self.owed.front_mut().map(|entry| &mut entry.expect) {
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

    /// RowDescription or NoData: the last answer to a Describe, or part of a query's.
    pub(super) fn described(&mut self) -> Result<(), OutOfOrder> {
        self.drop_copy_ends();
        match self.owed.front().map(|entry| &entry.expect) {
            Some(Expect::Describe) => {
                self.owed.pop_front();
                Ok(())
            }
            Some(Expect::Query(_) | Expect::Execute(_)) => Ok(()),
            _ => Err(OutOfOrder),
        }
    }

    /// CommandComplete, EmptyQueryResponse or PortalSuspended: ends an Execute.
    pub(super) fn command_ended(&mut self) -> Result<Option<Outcome>, OutOfOrder> {
        self.drop_copy_ends();
        match self.owed.front().map(|entry| &entry.expect) {
            Some(Expect::Query(_)) => Ok(None),
            Some(Expect::Execute(_)) => match self.pop() {
                Some(Expect::Execute(run)) => {
                    self.settle(&run);
                    Ok(Some(run.outcome(false)))
                }
                _ => Err(OutOfOrder),
            },
            _ => Err(OutOfOrder),
        }
    }

    /// CopyInResponse or CopyBothResponse: Syncs that were sent before it are ignored.
    pub(super) fn copy_in_began(&mut self) {
        let ended = self
            .owed
            .iter()
            .position(|entry| matches!(entry.expect, Expect::CopyEnd));
        self.copying_in = ended.is_none();
        let upto = ended.unwrap_or(self.owed.len());
        let mut index = 0;
        self.owed.retain(|entry| {
            let drop = index < upto && matches!(entry.expect, Expect::Sync);
            index += 1;
            !drop
        });
    }

    /// The denial that a decoy's error stands for.
    pub(super) fn take_denial(&mut self) -> Option<Box<ErrorMessage>> {
        self.drop_copy_ends();
        self.owed.front_mut().and_then(|entry| entry.denied.take())
    }

    /// ErrorResponse: ends or marks the front; in the extended protocol the server skips
    /// to Sync. Returns what ended, first the one that failed.
    pub(super) fn failed(&mut self, sqlstate: &str) -> Vec<Outcome> {
        self.drop_copy_ends();
        self.copying_in = false;
        match self.owed.front_mut().map(|entry| &mut entry.expect) {
            Some(Expect::Query(run)) => {
                run.sqlstate = Some(sqlstate.into());
                return Vec::new();
            }
            Some(Expect::Sync) | None => return Vec::new(),
            Some(Expect::Parse { name, .. }) if name.is_empty() => {
                self.statements.remove(&b""[..]);
            }
            Some(_) => {}
        }
        self.skip_to_sync(sqlstate)
    }

    fn skip_to_sync(&mut self, sqlstate: &str) -> Vec<Outcome> {
        let mut ended = Vec::new();
        let mut first = true;
        loop {
            match self.owed.front().map(|entry| &entry.expect) {
                Some(Expect::Sync) => return ended,
                None => {
                    self.skipping = true;
                    return ended;
                }
                Some(_) => {}
            }
            let sqlstate = first.then(|| sqlstate.into());
            if let Some(Expect::Query(mut run) | Expect::Execute(mut run)) = self.pop() {
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
    }

    /// ReadyForQuery with its transaction status: ends a query or a Sync.
    pub(super) fn ready(&mut self, status: u8) -> Result<Option<Outcome>, OutOfOrder> {
        self.drop_copy_ends();
        let outcome = match self.pop() {
            Some(Expect::Sync) => None,
            Some(Expect::Query(run)) => {
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

    fn pop(&mut self) -> Option<Expect> {
        self.drop_copy_ends();
        self.owed.pop_front().map(|entry| entry.expect)
    }

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

fn found(operation: Option<&Arc<Operation>>) -> Lookup {
    operation.map_or(Lookup::Unknown, |operation| {
        Lookup::Known(Arc::clone(operation))
    })
}
