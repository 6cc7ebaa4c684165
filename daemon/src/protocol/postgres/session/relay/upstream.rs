//! From the upstream to the agent: messages are counted and passed on; a decoy's error is
//! replaced by the denial that it stands for.

use bytes::Buf;

use super::{Fault, Relay, ServerEncoding, pass, shape};
use crate::protocol::postgres::codec::message::ErrorMessage;
use crate::protocol::postgres::codec::{Fields, Frame, HEADER, head};
use crate::protocol::postgres::enforce::error_field;
use crate::protocol::{Buffers, LONGEST_ANSWER, Outcome, Step};

/// What the agent gets for an upstream message.
enum Passed {
    AsItIs,
    /// This, or nothing.
    Instead(Option<Box<ErrorMessage>>),
}

impl Relay {
    /// Takes what has come, up to the first message that is not all there and must be.
    pub(super) fn read_upstream(&mut self, io: &mut Buffers) -> Result<(), Fault> {
        // Bytes at the front of `from_upstream` that go to the agent as they are.
        let mut ready = 0;
        let result = loop {
            if self.passing > 0 {
                let there = io.from_upstream.len() - ready;
                let now = there.min(self.passing);
                self.passing -= now;
                ready += now;
                if self.passing > 0 {
                    break Ok(());
                }
            }
            let rest = io.from_upstream.get(ready..).unwrap_or_default();
            let frame = match head(rest) {
                Ok(Some(frame)) => frame,
                Ok(None) => break Ok(()),
                Err(_) => break Err(Fault::upstream("a message with an impossible length")),
            };
            if streams(frame.tag) {
                match self.may_stream(frame, rest) {
                    Ok(true) => {}
                    Ok(false) => break Ok(()),
                    Err(fault) => break Err(fault),
                }
                self.count(frame);
                self.passing = frame.len;
                continue;
            }
            if frame.len > LONGEST_ANSWER {
                break Err(Fault::upstream("a message longer than the gate holds"));
            }
            let Some(bytes) = rest.get(..frame.len) else {
                break Ok(());
            };
            match self.take_answer(frame, bytes) {
                Ok(Passed::AsItIs) => ready += frame.len,
                Ok(Passed::Instead(replacement)) => {
                    pass(&mut io.to_agent, &mut io.from_upstream, ready);
                    ready = 0;
                    io.from_upstream.advance(frame.len);
                    if let Some(replacement) = replacement {
                        replacement.write(&mut io.to_agent);
                    }
                }
                Err(fault) => break Err(fault),
            }
        };
        if ready > 0 {
            pass(&mut io.to_agent, &mut io.from_upstream, ready);
        }
        result
    }

    /// Whether rows or data may come now; false where that can't be told yet.
    fn may_stream(&mut self, frame: Frame, bytes: &[u8]) -> Result<bool, Fault> {
        let unasked = |_| Fault::upstream("rows or data that nobody asked for");
        if frame.tag == b'd' {
            return self.pipeline.copy_data().map(|()| true).map_err(unasked);
        }
        if frame.len < HEADER + 2 {
            return Err(Fault::upstream("a row without a number of fields"));
        }
        match bytes.get(HEADER..).and_then(shape::count) {
            Some((fields, _)) => self.pipeline.row(fields).map(|()| true).map_err(unasked),
            None => Ok(false),
        }
    }

    fn count(&mut self, frame: Frame) {
        if let Some(run) = self.pipeline.running() {
            run.bytes += frame.len as u64;
            if matches!(frame.tag, b'D' | b'd') {
                run.rows += 1;
            }
        }
    }

    /// One whole message, and whether the agent gets it.
    fn take_answer(&mut self, frame: Frame, bytes: &[u8]) -> Result<Passed, Fault> {
        let body = bytes.get(HEADER..).unwrap_or_default();
        if !shape::fits(frame.tag, body) {
            return Err(Fault::upstream(
                "a message that does not have the shape of its type",
            ));
        }
        self.count(frame);
        match frame.tag {
            b'1'..=b'3' => self.pipeline.completed(frame.tag)?,
            b'C' | b'I' | b's' | b'V' => {
                if let Some(run) = self.pipeline.running() {
                    run.affected = run.affected.saturating_add(affected(bytes));
                }
                if frame.tag == b'V' {
                    self.pipeline.function_returned()?;
                }
                let ended = self.pipeline.command_ended(frame.tag)?;
                self.finish(ended);
            }
            b'T' => self.pipeline.described(shape::fields(body))?,
            b'n' => self.pipeline.described(None)?,
            b't' => self.pipeline.parameters_described()?,
            b'E' => return self.take_error(bytes),
            b'Z' => {
                let status = bytes.get(HEADER).copied().unwrap_or_default();
                let ended = self.pipeline.ready(status)?;
                self.finish(ended);
            }
            b'G' => {
                self.pipeline.copy_in_began()?;
                // A message that waits behind the COPY is what ends it.
                self.waiting = None;
            }
            b'H' => self.pipeline.copy_out_began()?,
            b'c' => self.pipeline.copy_out_ended()?,
            // The server may be told to say what it is doing: not with our own words.
            b'N' if self.decoys.shows_in(bytes) => return Ok(Passed::Instead(None)),
            b'S' => self.take_status(bytes)?,
            // Notices, notifications: nothing to account for.
            b'N' | b'A' => {}
            _ => return Err(Fault::upstream("a message of unknown type")),
        }
        Ok(Passed::AsItIs)
    }

    fn take_error(&mut self, bytes: &[u8]) -> Result<Passed, Fault> {
        if self.decoys.shows_in(bytes) {
            let Some(denial) = self.pipeline.take_denial() else {
                return Err(Fault::upstream("a decoy's error out of turn"));
            };
            for outcome in self.pipeline.failed(denial.code)? {
                self.finish(Some(outcome));
            }
            return Ok(Passed::Instead(Some(denial)));
        }
        self.farewell = matches!(error_field(bytes, b'V'), Some(b"FATAL" | b"PANIC"));
        if self.farewell && self.pipeline.next().is_none() {
            return Ok(Passed::AsItIs);
        }
        let code = String::from_utf8_lossy(error_field(bytes, b'C').unwrap_or(b"XX000"));
        for outcome in self.pipeline.failed(&code)? {
            self.finish(Some(outcome));
        }
        Ok(Passed::AsItIs)
    }

    /// ParameterStatus: a setting on which reading the statements depends may have changed.
    pub(super) fn take_status(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let mut fields = Fields::of_frame(bytes);
        let cut = |_| Fault::upstream("a setting's report is cut short");
        let name = fields.bytes().map_err(cut)?;
        let value = fields.bytes().map_err(cut)?;
        match name {
            b"client_encoding" => {
                let is_utf8 = value.eq_ignore_ascii_case(b"UTF8");
                self.reading.client_utf8 = Some(is_utf8);
                if !is_utf8 {
                    self.pipeline.reading_was_other();
                }
            }
            b"server_encoding" => {
                self.reading.server = match value {
                    b"UTF8" => Some(ServerEncoding::Utf8),
                    _ => Some(ServerEncoding::Other),
                };
            }
            b"standard_conforming_strings" => {
                self.reading.conforming = Some(value == b"on");
                if value != b"on" {
                    self.pipeline.reading_was_other();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, ended: Option<Outcome>) {
        self.steps.extend(ended.map(Step::Finished));
    }
}

/// The row count at the end of a CommandComplete's tag; 0 where it has none.
fn affected(bytes: &[u8]) -> u64 {
    let tag = Fields::of_frame(bytes).text().unwrap_or_default();
    tag.rsplit(' ')
        .next()
        .and_then(|count| count.parse().ok())
        .unwrap_or(0)
}

/// Rows and copy data are passed on as they stream in.
fn streams(tag: u8) -> bool {
    matches!(tag, b'D' | b'd')
}
