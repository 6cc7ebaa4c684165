//! From the agent to the upstream: each message is whole before it is looked at, and a
//! message that carries or runs a statement is held until its verdict.

use std::sync::Arc;

use bytes::{Buf, BytesMut};

use super::texts::may_change_reading;
use super::{Fault, Relay, malformed, pass};
use crate::policy::{Effect, Verb};
use crate::protocol::postgres::codec::message::ErrorMessage;
use crate::protocol::postgres::codec::{Fields, HEADER, Malformed, whole};
use crate::protocol::postgres::enforce::{self, Denied};
use crate::protocol::postgres::session::pipeline::{Expect, Fill, Kept, Lookup, Run};
use crate::protocol::{
    Buffers, CloseReason, NameKind, Names, Operation, Question, Stage, Step, Verdict,
};

/// Longest name of a statement or portal, in bytes (NAMEDATALEN - 1). The server cuts
/// longer ones, so that two of them may be one.
const MAX_NAME: usize = 63;
/// Flush: the server sends the answers that it still keeps back.
const FLUSH: [u8; 5] = [b'H', 0, 0, 0, 4];

/// A message that waits for its verdict, and how it goes on. Until then it stays where it
/// is: at the front of what has come from the agent.
pub(in super::super) struct Held {
    len: usize,
    number: u64,
    kind: Kind,
    /// As its text says.
    operation: Kept,
    /// With what its name stands for put in.
    judged: Arc<Operation>,
}

enum Kind {
    Query,
    Parse(Box<[u8]>),
    Execute,
}

/// What became of one message.
enum Taken {
    /// Gone up, or dropped: go on with the next.
    Done,
    /// Held for a verdict.
    Held(Held),
    /// Must wait for the upstream's answer to what is under way.
    Wait,
}

impl Relay {
    /// Takes whole messages until one must be judged or wait.
    pub(super) fn read_agent(&mut self, io: &mut Buffers) -> Result<(), Fault> {
        // What had to wait is looked at again only when an answer has come.
        if self.waiting.is_some() && self.waiting == self.pipeline.next() {
            return Ok(());
        }
        self.waiting = None;
        while !self.goodbye {
            let frame = match whole(&io.from_agent, self.message_limit) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(broken) => return Err(self.unreadable(broken)),
            };
            let bytes = io.from_agent.get(..frame.len).unwrap_or_default();
            let taken = match self.room(frame.tag, &mut io.to_upstream)? {
                true => self.take(frame.tag, bytes, &mut io.to_upstream)?,
                false => Taken::Wait,
            };
            match taken {
                Taken::Wait => {
                    self.waiting = self.pipeline.next();
                    return Ok(());
                }
                Taken::Done => io.from_agent.advance(frame.len),
                Taken::Held(held) => {
                    let len = frame.len;
                    self.ask(Held { len, ..held });
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Whether one more message may become owed an answer.
    fn room(&mut self, tag: u8, up: &mut BytesMut) -> Result<bool, Fault> {
        let owes_nothing = match tag {
            b'd' | b'H' | b'X' => true,
            b'c' | b'f' | b'S' => self.pipeline.copying_in(),
            _ => false,
        };
        if owes_nothing {
            return Ok(true);
        }
        if self.pipeline.is_overfull() {
            return Err(Fault::agent("too many statements in one connection"));
        }
        let fill = self.pipeline.fill();
        if fill == Fill::JustFull {
            up.extend_from_slice(&FLUSH);
        }
        Ok(fill == Fill::Room)
    }

    fn unreadable(&self, broken: Malformed) -> Fault {
        if broken != Malformed::TooLong {
            return malformed(broken);
        }
        let text = format!(
            "a message longer than this gate's limit of {} bytes",
            self.message_limit
        );
        Fault {
            error: Some(ErrorMessage::fatal("54000", text)),
            reason: CloseReason::AgentProtocol("a message longer than the limit"),
        }
    }

    fn take(&mut self, tag: u8, frame: &[u8], up: &mut BytesMut) -> Result<Taken, Fault> {
        match tag {
            // A body here is an error that only the server would see.
            b'S' | b'H' | b'c' | b'X' if frame.len() > HEADER => {
                return Err(malformed(Malformed::Trailing));
            }
            b'S' => self.forward(frame, up, Expect::Sync),
            b'X' => {
                up.extend_from_slice(frame);
                self.goodbye = true;
            }
            // The server skips everything up to Sync; so does the gate.
            b'Q' | b'P' | b'B' | b'E' | b'D' | b'C' | b'F' | b'H' | b'd' | b'c' | b'f'
                if self.pipeline.skipping() => {}
            b'Q' => return self.take_query(frame),
            b'P' => return self.take_parse(frame),
            b'B' => return self.take_bind(frame, up),
            b'E' => return self.take_execute(frame),
            b'D' => {
                named(frame)?;
                self.forward(frame, up, Expect::Describe);
            }
            b'C' => return self.take_close(frame, up),
            b'F' => return Ok(self.take_call(frame)),
            b'H' | b'd' => up.extend_from_slice(frame),
            b'c' | b'f' => self.forward(frame, up, Expect::CopyEnd),
            _ => return Err(Fault::agent("a message of unknown type")),
        }
        Ok(Taken::Done)
    }

    fn forward(&mut self, frame: &[u8], up: &mut BytesMut, expect: Expect) {
        up.extend_from_slice(frame);
        self.pipeline.push(expect);
    }

    fn take_query(&mut self, frame: &[u8]) -> Result<Taken, Fault> {
        let mut fields = Fields::of_frame(frame);
        let text = fields.bytes().map_err(malformed)?;
        fields.end().map_err(malformed)?;
        Ok(match self.analyse(text) {
            Some(operation) => self.held(Kind::Query, operation),
            None => Taken::Wait,
        })
    }

    fn take_parse(&mut self, frame: &[u8]) -> Result<Taken, Fault> {
        let mut fields = Fields::of_frame(frame);
        let name = name(&mut fields)?;
        let text = fields.bytes().map_err(malformed)?;
        if self.pipeline.parse_must_wait(name) {
            return Ok(Taken::Wait);
        }
        Ok(match self.analyse(text) {
            Some(operation) => self.held(Kind::Parse(name.into()), operation),
            None => Taken::Wait,
        })
    }

    fn take_bind(&mut self, frame: &[u8], up: &mut BytesMut) -> Result<Taken, Fault> {
        let mut fields = Fields::of_frame(frame);
        let portal = name(&mut fields)?;
        let statement = name(&mut fields)?;
        let operation = match self.pipeline.statement(statement) {
            Lookup::Wait => return Ok(Taken::Wait),
            Lookup::Known(operation) => Some(operation),
            // The server will say that there is none; if it knows one that the gate does
            // not, its portal can't be executed.
            Lookup::Unknown => None,
        };
        let portal = portal.into();
        self.forward(frame, up, Expect::Bind { portal, operation });
        Ok(Taken::Done)
    }

    fn take_execute(&mut self, frame: &[u8]) -> Result<Taken, Fault> {
        let portal = name(&mut Fields::of_frame(frame))?;
        let operation = match self.pipeline.portal(portal) {
            Lookup::Wait => return Ok(Taken::Wait),
            Lookup::Known(operation) => operation,
            Lookup::Unknown => self.keep(unseen(
                "Execute of a portal that the gate did not see bound",
            )),
        };
        Ok(self.held(Kind::Execute, operation))
    }

    fn take_close(&mut self, frame: &[u8], up: &mut BytesMut) -> Result<Taken, Fault> {
        let (kind, name) = named(frame)?;
        let name = name.into();
        let expect = match kind {
            b'S' => Expect::CloseStatement(name),
            b'P' => Expect::ClosePortal(name),
            _ => return Err(Fault::agent("Close of neither a statement nor a portal")),
        };
        self.forward(frame, up, expect);
        Ok(Taken::Done)
    }

    /// A function by its number: which one that is, only the server knows.
    fn take_call(&mut self, frame: &[u8]) -> Taken {
        let oid = Fields::of_frame(frame).int32().unwrap_or_default();
        let problem = "FunctionCall names its function by a number";
        let operation = Arc::new(Operation {
            text: format!("FunctionCall {oid}").into(),
            fingerprint: "function-call".into(),
            effects: vec![
                Effect::on_path(Verb::SqlCall, format!("function.\"oid {oid}\"")),
                Effect::on_path(Verb::SqlUnknown, "statement"),
            ],
            problem: Some(problem.into()),
            names: Names::any(),
        });
        let operation = self.keep(operation);
        self.held(Kind::Query, operation)
    }

    pub(super) fn keep(&self, operation: Arc<Operation>) -> Kept {
        Kept::new(operation, self.pipeline.account())
    }

    /// Holds the message; an operation that uses a name is judged by what it stands for.
    fn held(&mut self, kind: Kind, operation: Kept) -> Taken {
        let Some(judged) = self.resolve(&operation) else {
            return Taken::Wait;
        };
        self.operations += 1;
        Taken::Held(Held {
            len: 0,
            number: self.operations,
            kind,
            operation,
            judged,
        })
    }

    /// Puts in what the operation's name stands for; none if that is not settled yet.
    fn resolve(&self, operation: &Kept) -> Option<Arc<Operation>> {
        let Some(usage) = &operation.names.uses else {
            return Some(operation.share());
        };
        let target = match usage.kind {
            NameKind::Statement => self.pipeline.statement(usage.name.as_bytes()),
            NameKind::Cursor { .. } => self.pipeline.portal(usage.name.as_bytes()),
        };
        match target {
            Lookup::Wait => None,
            // A name for a use of another name is not followed.
            Lookup::Known(target) if target.names.uses.is_none() => {
                Some(Arc::new(operation.resolved(usage, &target)))
            }
            Lookup::Known(_) | Lookup::Unknown => Some(operation.share()),
        }
    }

    fn ask(&mut self, held: Held) {
        self.steps.push_back(Step::Judge(Question {
            number: held.number,
            stage: match held.kind {
                Kind::Query => Stage::Query,
                Kind::Parse(_) => Stage::Prepare,
                Kind::Execute => Stage::Execute,
            },
            operation: Arc::clone(&held.judged),
        }));
        self.held = Some(held);
    }

    /// The verdict on the held message: it goes up as it is, or a decoy does.
    pub(in super::super) fn verdict(&mut self, verdict: &Verdict, io: &mut Buffers) {
        let Some(held) = self.held.take() else {
            return;
        };
        let denial = enforce::denial(verdict, self.request(held.number)).map(|mut error| {
            if let Some(problem) = &held.judged.problem {
                error.detail = format!("{} {problem}.", error.detail);
            }
            error
        });
        let operation = held.operation.clone();
        let expect = match &held.kind {
            Kind::Query => Expect::Query(Run::new(held.number, operation)),
            Kind::Execute => Expect::Execute(Run::new(held.number, operation)),
            Kind::Parse(name) => Expect::Parse {
                name: name.clone(),
                operation,
            },
        };
        match denial {
            None => {
                pass(&mut io.to_upstream, &mut io.from_agent, held.len);
                self.pipeline.push(expect);
                if !matches!(held.kind, Kind::Parse(_)) && may_change_reading(&held.judged) {
                    self.pipeline.reading_may_change();
                }
            }
            Some(error) => {
                io.from_agent.advance(held.len);
                let denied = match &held.kind {
                    Kind::Query => Denied::Query,
                    Kind::Parse(name) => Denied::Parse(name),
                    Kind::Execute => Denied::Execute,
                };
                self.decoys.write(denied, &mut io.to_upstream);
                self.pipeline.push_denied(expect, error);
            }
        }
    }
}

/// A statement's or portal's name.
fn name<'a>(fields: &mut Fields<'a>) -> Result<&'a [u8], Fault> {
    let name = fields.bytes().map_err(malformed)?;
    match name.len() {
        0..=MAX_NAME => Ok(name),
        _ => Err(Fault::agent(
            "the name of a statement or portal is longer than 63 bytes",
        )),
    }
}

/// The kind and the name of what Describe and Close are about.
fn named(frame: &[u8]) -> Result<(u8, &[u8]), Fault> {
    let mut fields = Fields::of_frame(frame);
    let kind = fields.byte().map_err(malformed)?;
    Ok((kind, name(&mut fields)?))
}

/// An operation that can't be judged, because the gate has not seen its text.
fn unseen(problem: &str) -> Arc<Operation> {
    Arc::new(Operation {
        text: problem.into(),
        fingerprint: "unseen".into(),
        effects: vec![Effect::on_path(Verb::SqlUnknown, "statement")],
        problem: Some(problem.into()),
        names: Names::any(),
    })
}
