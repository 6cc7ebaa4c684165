//! What a record says. Pure: building one does no I/O beside reading the clock.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;

use serde::{Serialize, Serializer};

use crate::types::{CgroupId, RequestId, SessionId};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The daemon is ready.
    DaemonStart,
    /// The daemon stops; the gate stays shut.
    DaemonStop,
    /// The gate was taken down.
    GateReleased,
    /// A policy generation is in force.
    PolicyLoaded,
    /// A policy was not taken; the last good one stays.
    PolicyRejected,
    /// An agent session began.
    SessionStart,
    /// An agent session got more time, or other claims, from a fresh token.
    SessionRenewed,
    /// An agent session was asked for, and there is none.
    SessionRefused,
    /// An agent session ended.
    SessionEnd,
    /// A connection reached the gate.
    ConnectionOpen,
    /// A connection ended.
    ConnectionClose,
    /// A connection was refused.
    ConnectionRefused,
    /// An agent asked to stop what runs on another connection of its session.
    CancelRequest,
    /// An operation was judged.
    Decision,
    /// An allowed operation ended.
    Outcome,
    /// The kernel refused a socket call.
    GateRefused,
    /// Late records were lost while the log was full.
    RecordsLost,
    /// A name was not answered.
    DnsRefused,
}

impl Event {
    /// The word in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::DaemonStart => "daemon_start",
            Self::DaemonStop => "daemon_stop",
            Self::GateReleased => "gate_released",
            Self::PolicyLoaded => "policy_loaded",
            Self::PolicyRejected => "policy_rejected",
            Self::SessionStart => "session_start",
            Self::SessionRenewed => "session_renewed",
            Self::SessionRefused => "session_refused",
            Self::SessionEnd => "session_end",
            Self::ConnectionOpen => "connection_open",
            Self::ConnectionClose => "connection_close",
            Self::ConnectionRefused => "connection_refused",
            Self::CancelRequest => "cancel_request",
            Self::Decision => "decision",
            Self::Outcome => "outcome",
            Self::GateRefused => "gate_refused",
            Self::RecordsLost => "records_lost",
            Self::DnsRefused => "dns_refused",
        }
    }
}

/// What is the same in all records of a session or connection: rendered once.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// A JSON object without its braces.
    json: String,
    /// The same for the journal's fields.
    fields: Vec<(&'static str, String)>,
}

/// Who: an agent session.
#[derive(Debug, Clone, Serialize)]
pub struct SessionContext<'a> {
    /// Session id.
    pub session: &'a SessionId,
    /// Whom it acts for.
    pub principal: &'a str,
    /// The sessions that it was started from inside of, outermost first.
    #[serde(skip_serializing_if = "<[SessionId]>::is_empty")]
    pub chain: &'a [SessionId],
    /// Path of the session's cgroup.
    #[serde(serialize_with = "lossy")]
    pub cgroup: &'a Path,
    /// Kernel id of that cgroup.
    pub cgroup_id: CgroupId,
}

/// Who and where to: one connection of a session.
#[derive(Debug, Clone, Serialize)]
pub struct ConnectionContext<'a> {
    /// The session.
    #[serde(flatten)]
    pub session: SessionContext<'a>,
    /// The connection's id.
    #[serde(serialize_with = "display")]
    pub connection: crate::types::ConnectionId,
    /// Process that called connect().
    pub pid: u32,
    /// Its user.
    pub uid: u32,
    /// Its name (`comm`).
    pub command: &'a str,
    /// The address that it asked for.
    pub destination: String,
    /// The name that the session last asked for and got this address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    /// The service that this address is.
    pub service: &'a str,
    /// Database, once known.
    pub database: &'a str,
    /// The user that the agent named.
    pub user: &'a str,
}

impl Context {
    /// Renders what every record of this session repeats.
    pub fn session(context: &SessionContext<'_>) -> Self {
        let fields = vec![
            ("PORTCULLIS_SESSION", context.session.to_string()),
            ("PORTCULLIS_PRINCIPAL", context.principal.to_owned()),
        ];
        Self {
            json: inner(context),
            fields,
        }
    }

    /// Renders what every record of this connection repeats.
    pub fn connection(context: &ConnectionContext<'_>) -> Self {
        let mut rendered = Self::session(&context.session);
        rendered.json = inner(context);
        rendered
            .fields
            .push(("PORTCULLIS_CONNECTION", context.connection.to_string()));
        rendered
            .fields
            .push(("PORTCULLIS_SERVICE", context.service.to_owned()));
        rendered
    }
}

/// A JSON object without its braces; empty if it has no JSON form.
fn inner(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    text.strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'))
        .unwrap_or_default()
        .to_owned()
}

/// A rule in a record.
#[derive(Debug, Clone, Serialize)]
pub struct RuleBody<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its file.
    pub file: &'a str,
    /// Its line.
    pub line: u32,
}

/// [`Event::Decision`], but for the operation's number.
#[derive(Debug, Serialize)]
pub struct DecisionBody<'a> {
    /// `query`, `prepare` or `execute`.
    pub stage: &'static str,
    /// `allow` or `deny`.
    pub decision: &'static str,
    /// The rules that decided.
    pub rules: Vec<RuleBody<'a>>,
    /// Why, for a denial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Policy generation.
    pub generation: u64,
    /// What it does, as `verb object`.
    #[serde(serialize_with = "displays")]
    pub effects: &'a [crate::policy::Effect],
    /// Why the analyser could not read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<&'a str>,
    /// Shape of the text.
    pub fingerprint: &'a str,
    /// The text.
    pub statement: &'a str,
    /// The roles that were in force.
    pub roles: &'a [crate::types::RoleName],
}

/// A [`DecisionBody`], rendered once for each time that it is decided anew.
#[derive(Debug)]
pub struct DecisionText(String);

impl DecisionText {
    /// Renders it.
    ///
    /// # Errors
    /// It has no JSON form; a bug.
    pub fn new(body: &DecisionBody<'_>) -> Result<Self, serde_json::Error> {
        let text = inner(body);
        if text.is_empty() {
            return Err(serde::ser::Error::custom("a decision must be an object"));
        }
        Ok(Self(text))
    }

    /// Bytes that it takes.
    pub fn size(&self) -> usize {
        self.0.len()
    }
}

/// The decision on one operation.
#[derive(Debug)]
pub struct Judged<'a> {
    /// The operation.
    pub request: RequestId,
    /// What was decided.
    pub text: &'a DecisionText,
}

impl Body for Judged<'_> {
    fn write(&self, line: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        let Self { request, text } = self;
        write!(line, "{{\"request\":\"{request}\",{}}}", text.0).map_err(serde_json::Error::io)
    }
}

/// [`Event::Outcome`].
#[derive(Debug, Serialize)]
pub struct OutcomeBody<'a> {
    /// The operation.
    #[serde(serialize_with = "display")]
    pub request: RequestId,
    /// Rows sent or changed.
    pub rows: u64,
    /// Bytes sent to the agent.
    pub bytes: u64,
    /// From the decision to the end, microseconds.
    pub duration_us: u64,
    /// SQLSTATE of the error that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<&'a str>,
    /// The server skipped it after an earlier error.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
}

/// A record, ready to be written.
pub struct Record<'a> {
    event: Event,
    context: &'a Context,
    body: &'a dyn Body,
    /// Further fields for the journal.
    fields: Vec<(&'static str, String)>,
}

impl<'a> Record<'a> {
    /// A record of `event` with what its context and its body say.
    pub fn new<B: Serialize + Sync>(event: Event, context: &'a Context, body: &'a B) -> Self {
        Self {
            event,
            context,
            body,
            fields: Vec::new(),
        }
    }

    /// The record of a decision.
    pub fn judged(context: &'a Context, judged: &'a Judged<'a>) -> Self {
        Self {
            event: Event::Decision,
            context,
            body: judged,
            fields: Vec::new(),
        }
    }

    /// Adds a field for `journalctl` to filter by.
    #[must_use]
    pub fn with_field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// What happened.
    pub fn event(&self) -> Event {
        self.event
    }

    /// All fields for the journal.
    pub fn fields(&self) -> impl Iterator<Item = &(&'static str, String)> {
        self.context.fields.iter().chain(&self.fields)
    }

    /// Appends the JSON line, newline included.
    pub fn write_line(&self, line: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        let now = jiff::Timestamp::now();
        let head = write!(line, "{{\"time\":\"{now:.6}\",\"event\":\"");
        head.map_err(serde_json::Error::io)?;
        line.extend_from_slice(self.event.name().as_bytes());
        line.push(b'"');
        if !self.context.json.is_empty() {
            line.push(b',');
            line.extend_from_slice(self.context.json.as_bytes());
        }
        let start = line.len();
        self.body.write(line)?;
        // The body's own opening brace becomes the comma that joins it to the rest.
        match line.get_mut(start..) {
            Some([b'{', b'}'] | [b'n', b'u', b'l', b'l']) => line.truncate(start),
            Some([brace @ b'{', ..]) => {
                *brace = b',';
                line.pop();
            }
            _ => return Err(serde::ser::Error::custom("a body must be an object")),
        }
        line.extend_from_slice(b"}\n");
        Ok(())
    }
}

trait Body: Sync {
    fn write(&self, line: &mut Vec<u8>) -> Result<(), serde_json::Error>;
}

impl<B: Serialize + Sync> Body for B {
    fn write(&self, line: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        serde_json::to_writer(line, self)
    }
}

fn display<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// A path that is no UTF-8 is shown as well as can be.
fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

fn displays<S: Serializer>(values: &[impl Display], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(ToString::to_string))
}
