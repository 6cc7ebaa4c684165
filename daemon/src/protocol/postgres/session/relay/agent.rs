//! From the agent to the upstream: each message is whole before it is looked at, and a
//! message that carries or runs a statement is held until its verdict.

use std::sync::Arc;

use bytes::BytesMut;

use super::{Fault, Relay, malformed};
use crate::policy::{Effect, Verb};
use crate::protocol::postgres::analyse::Context;
use crate::protocol::postgres::codec::message::ErrorMessage;
use crate::protocol::postgres::codec::{Fields, Malformed, whole};
use crate::protocol::postgres::enforce::{self, Denied};
use crate::protocol::postgres::session::pipeline::{Expect, Lookup, Run};
use crate::protocol::{
    Buffers, CloseReason, NameKind, Names, Operation, Question, Stage, Step, Verdict,
};

/// Unanswered messages and names that one connection may have; libpq's own tests stay
/// far below.
const PIPELINE_LIMIT: usize = 100_000;

/// A message that waits for its verdict, and how it goes on.
pub(in super::super) struct Held {
    frame: BytesMut,
    number: u64,
    kind: Kind,
    /// As its text says.
    operation: Arc<Operation>,
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
        loop {
            let frame = match whole(&io.from_agent, self.message_limit) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(broken) => return Err(self.unreadable(broken)),
            };
            if self.pipeline.len() + self.pipeline.names() > PIPELINE_LIMIT {
                return Err(Fault::agent("too many statements in one connection"));
            }
            let bytes = io.from_agent.get(..frame.len).unwrap_or_default();
            let taken = self.take(frame.tag, bytes, &mut io.to_upstream)?;
            match taken {
                Taken::Wait => return Ok(()),
                Taken::Done => drop(io.from_agent.split_to(frame.len)),
                Taken::Held(held) => {
                    let frame = io.from_agent.split_to(frame.len);
                    self.ask(Held { frame, ..held });
                    return Ok(());
                }
            }
        }
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
            b'S' => self.forward(frame, up, Expect::Sync),
            b'X' => {
                up.extend_from_slice(frame);
                self.steps.push_back(Step::Close(CloseReason::Finished));
            }
            // The server skips everything up to Sync; so does the gate.
            b'Q' | b'P' | b'B' | b'E' | b'D' | b'C' | b'F' | b'H' | b'd' | b'c' | b'f'
                if self.pipeline.skipping() => {}
            b'Q' => return self.take_query(frame),
            b'P' => return self.take_parse(frame),
            b'B' => return self.take_bind(frame, up),
            b'E' => return self.take_execute(frame),
            b'D' => self.forward(frame, up, Expect::Describe),
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
        let operation = self.analyse(text);
        Ok(self.held(Kind::Query, &operation))
    }

    fn take_parse(&mut self, frame: &[u8]) -> Result<Taken, Fault> {
        let mut fields = Fields::of_frame(frame);
        let name = fields.bytes().map_err(malformed)?;
        let text = fields.bytes().map_err(malformed)?;
        if self.pipeline.parse_must_wait(name) {
            return Ok(Taken::Wait);
        }
        let operation = self.analyse(text);
        Ok(self.held(Kind::Parse(name.into()), &operation))
    }

    fn take_bind(&mut self, frame: &[u8], up: &mut BytesMut) -> Result<Taken, Fault> {
        let mut fields = Fields::of_frame(frame);
        let portal = fields.bytes().map_err(malformed)?;
        let statement = fields.bytes().map_err(malformed)?;
        let operation = match self.pipeline.statement(statement) {
            Lookup::Wait => return Ok(Taken::Wait),
            Lookup::Known(operation) => Some(operation),
            // The server will say that there is none; if it knows one that the gate does
            // not, its portal can't be executed.
            Lookup::Unknown => None,
        };
        self.forward(
            frame,
            up,
            Expect::Bind {
                portal: portal.into(),
                operation,
            },
        );
        Ok(Taken::Done)
    }

    fn take_execute(&mut self, frame: &[u8]) -> Result<Taken, Fault> {
        let portal = Fields::of_frame(frame).bytes().map_err(malformed)?;
        let operation = match self.pipeline.portal(portal) {
            Lookup::Wait => return Ok(Taken::Wait),
            Lookup::Known(operation) => operation,
            Lookup::Unknown => unseen("Execute of a portal that the gate did not see bound"),
        };
        Ok(self.held(Kind::Execute, &operation))
    }

    fn take_close(&mut self, frame: &[u8], up: &mut BytesMut) -> Result<Taken, Fault> {
        let mut fields = Fields::of_frame(frame);
        let kind = fields.byte().map_err(malformed)?;
        let name = fields.bytes().map_err(malformed)?.into();
        let expect = match kind {
            b'S' => Expect::CloseStatement(name),
            b'P' => Expect::ClosePortal(name),
            _ => return Err(Fault::agent("Close of neither a statement nor a portal")),
        };
        self.forward(frame, up, expect);
        Ok(Taken::Done)
    }

    fn take_call(&mut self, frame: &[u8]) -> Taken {
        let oid = Fields::of_frame(frame).int32().unwrap_or_default();
        let operation = Arc::new(Operation {
            text: format!("FunctionCall {oid}").into(),
            fingerprint: "function-call".into(),
            effects: vec![Effect::on_path(
                Verb::SqlCall,
                format!("pg_catalog.\"oid {oid}\""),
            )],
            problem: None,
            names: Names::default(),
        });
        self.held(Kind::Query, &operation)
    }

    /// Holds the message; an operation that uses a name is judged by what it stands for.
    fn held(&mut self, kind: Kind, operation: &Arc<Operation>) -> Taken {
        let Some(judged) = self.resolve(operation) else {
            return Taken::Wait;
        };
        self.operations += 1;
        Taken::Held(Held {
            frame: BytesMut::new(),
            number: self.operations,
            kind,
            operation: Arc::clone(operation),
            judged,
        })
    }

    /// Puts in what the operation's name stands for; none if that is not settled yet.
    fn resolve(&self, operation: &Arc<Operation>) -> Option<Arc<Operation>> {
        let Some(usage) = &operation.names.uses else {
            return Some(Arc::clone(operation));
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
            Lookup::Known(_) | Lookup::Unknown => Some(Arc::clone(operation)),
        }
    }

    fn analyse(&self, text: &[u8]) -> Arc<Operation> {
        match std::str::from_utf8(text) {
            // In other encodings a byte above 127 may hide a quote from us.
            Ok(text) if self.utf8 || text.is_ascii() => self.cache.analyse(
                text,
                &Context {
                    search_path: &self.search_path,
                },
            ),
            _ => unseen("a statement that is not UTF-8; set client_encoding to UTF8"),
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
        let expect = match &held.kind {
            Kind::Query => Expect::Query(Run::new(held.number, &held.operation)),
            Kind::Execute => Expect::Execute(Run::new(held.number, &held.operation)),
            Kind::Parse(name) => Expect::Parse {
                name: name.clone(),
                operation: Arc::clone(&held.operation),
            },
        };
        match denial {
            None => {
                io.to_upstream.extend_from_slice(&held.frame);
                self.pipeline.push(expect);
            }
            Some(error) => {
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

/// An operation that can't be judged, because the gate has not seen its text.
fn unseen(problem: &str) -> Arc<Operation> {
    Arc::new(Operation {
        text: problem.into(),
        fingerprint: "unseen".into(),
        effects: vec![Effect::on_path(Verb::SqlUnknown, "statement")],
        problem: Some(problem.into()),
        names: Names::default(),
    })
}
