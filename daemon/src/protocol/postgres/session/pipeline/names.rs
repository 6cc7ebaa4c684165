//! Which operation each statement and portal name stands for.
//!
//! Names are believed only once the server has confirmed them; a name that an unanswered
//! batch may still change makes the caller wait. Names are compared whole: the server cuts
//! them (NAMEDATALEN), so longer ones must not get here.

use super::{Expect, Kept, Pipeline, Run};
use crate::protocol::NameKind;

#[derive(Debug)]
pub(super) struct Portal {
    pub(super) operation: Kept,
    /// It outlives its transaction.
    pub(super) hold: bool,
}

/// What a name stands for.
#[derive(Debug)]
pub(in super::super) enum Lookup {
    Known(Kept),
    Unknown,
    /// An unanswered batch may still change it: ask again after the next ReadyForQuery.
    Wait,
}

fn found(operation: Option<&Kept>) -> Lookup {
    operation.cloned().map_or(Lookup::Unknown, Lookup::Known)
}

/// Whether the answer to it may change what a statement name stands for.
pub(super) fn may_name_statements(expect: &Expect) -> bool {
    match expect {
        Expect::Parse { .. } | Expect::CloseStatement(_) | Expect::Query(_) => true,
        Expect::Execute(run) => run.names().is_some(),
        Expect::Bind { .. }
        | Expect::Describe
        | Expect::ClosePortal(_)
        | Expect::Sync
        | Expect::CopyEnd => false,
    }
}

impl Pipeline {
    /// The operation of a statement name, as the next Bind would use it.
    pub(in super::super) fn statement(&self, name: &[u8]) -> Lookup {
        // Thousands may be owed that only run what was prepared long ago.
        if self.last_naming.is_none_or(|last| !self.still_owed(last)) {
            return found(self.statements.get(name));
        }
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
                } if **parsed == *name => found(Some(operation)),
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
    pub(in super::super) fn portal(&self, name: &[u8]) -> Lookup {
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
    pub(in super::super) fn parse_must_wait(&self, name: &[u8]) -> bool {
        !name.is_empty() && matches!(self.statement(name), Lookup::Wait)
    }

    /// A run has ended: names that its text made stand for it, those it dropped for nothing.
    /// After an error each name that it might have changed stands for nothing.
    pub(super) fn settle(&mut self, run: &Run) {
        let Some(operation) = &run.operation else {
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
                self.statements.insert(name, operation.clone());
            }
            Some((NameKind::Cursor { hold }, name)) => {
                let (operation, hold) = (operation.clone(), *hold);
                let portal = Portal { operation, hold };
                self.portals.insert(name.as_bytes().into(), portal);
            }
            None => {}
        }
    }
}
