//! Rows and copy data: whether the operation that runs may bring or take them now.
//!
//! While a COPY takes data, the server takes every other message for its end, and loses it;
//! when it fails early, it takes them again. Which of the two it will be can't be known, so
//! what is behind a COPY FROM STDIN has to wait for its end.

use super::run::Kind;
use super::{Entry, Expect, OutOfOrder, Pipeline};

impl Pipeline {
    /// Whether the server may take what is sent now for the end of a COPY's data.
    pub(in super::super) fn may_be_copying_in(&self) -> bool {
        let mut newest = self.owed.iter().rev();
        let run = newest.find(|entry| !matches!(entry.expect, Expect::Sync | Expect::CopyEnd));
        match run {
            Some(Entry {
                expect: Expect::Query(run) | Expect::Execute(run),
                denied: None,
                ..
            }) => run.may_copy_in(),
            _ => false,
        }
    }

    /// DataRow with so many fields.
    pub(in super::super) fn row(&mut self, fields: u16) -> Result<(), OutOfOrder> {
        match self.front() {
            Some(Expect::Query(run)) if run.fields == Some(fields) && !run.copying_out => Ok(()),
            // Described to whoever asked for it, or to nobody.
            Some(Expect::Execute(run)) if !run.copying_out => Ok(()),
            _ => Err(OutOfOrder),
        }
    }

    /// CopyData.
    pub(in super::super) fn copy_data(&mut self) -> Result<(), OutOfOrder> {
        match self.running() {
            Some(run) if run.copying_out => Ok(()),
            _ => Err(OutOfOrder),
        }
    }

    /// CopyOutResponse.
    pub(in super::super) fn copy_out_began(&mut self) -> Result<(), OutOfOrder> {
        match self.running() {
            Some(run) if matches!(run.kind, Kind::CopyOut | Kind::Unknown) => {
                run.copying_out = true;
                Ok(())
            }
            _ => Err(OutOfOrder),
        }
    }

    /// CopyDone.
    pub(in super::super) fn copy_out_ended(&mut self) -> Result<(), OutOfOrder> {
        let run = self.running().filter(|run| run.copying_out);
        run.ok_or(OutOfOrder)?.copying_out = false;
        Ok(())
    }

    /// FunctionCallResponse.
    pub(in super::super) fn function_returned(&mut self) -> Result<(), OutOfOrder> {
        match self.front() {
            Some(Expect::Query(run)) if run.kind == Kind::Unknown => Ok(()),
            _ => Err(OutOfOrder),
        }
    }
}
