//! Protocol sessions, sans-IO: bytes and answers in, steps out.
//!
//! A [`Session`] never sees a socket, a clock or a file. It reads what came from either
//! side out of [`Buffers`], writes what may go to the other side into them, and stops at
//! each [`Step`] that needs somebody else: a verdict, a connection, a credential.
//! Invariant: a byte of an operation reaches `to_upstream` only after its verdict.
#![forbid(unsafe_code)]

mod names;
pub mod postgres;

use std::sync::Arc;

use bytes::BytesMut;

pub use names::{Changed, NameKind, Names, Use};

use crate::policy::{Decision, Denial, Effect};
use crate::types::Credential;

/// The longest message of an upstream that a session holds whole, in bytes. Rows and the
/// like are passed on as they come.
pub const LONGEST_ANSWER: usize = 16 * 1024 * 1024;

/// The four byte queues of a connection.
#[derive(Debug, Default)]
pub struct Buffers {
    /// Read from the agent, not yet taken by the session.
    pub from_agent: BytesMut,
    /// To be written to the agent.
    pub to_agent: BytesMut,
    /// Read from the upstream, not yet taken by the session.
    pub from_upstream: BytesMut,
    /// To be written to the upstream.
    pub to_upstream: BytesMut,
}

impl Buffers {
    /// Bytes in all of them.
    pub fn held(&self) -> usize {
        let incoming = self.from_agent.len() + self.from_upstream.len();
        incoming + self.to_agent.len() + self.to_upstream.len()
    }
}

/// An operation as the analyser read it; shared by every use of the same text.
#[derive(Debug)]
pub struct Operation {
    /// The text that the agent sent.
    pub text: Box<str>,
    /// A hash of the text's shape, constants left out.
    pub fingerprint: Box<str>,
    /// Everything that it does.
    pub effects: Vec<Effect>,
    /// Why the analyser could not read it (its effects are then `sql.unknown`).
    pub problem: Option<Box<str>>,
    /// What it does to the session's names.
    pub names: Names,
}

/// What the session needs before it can go on.
#[derive(Debug)]
pub enum Step {
    /// More bytes, from either side.
    Idle,
    /// The agent has said what it wants: admit it, connect, then [`Answer::Dialled`] or
    /// [`Answer::Refused`].
    Dial(Opening),
    /// Turn the upstream connection to TLS, then [`Answer::Secured`].
    StartTls,
    /// The credential of the service, as [`Answer::Credential`], before the gate says who
    /// it is: the credential may bring its own user.
    NeedCredential,
    /// Logged in at the upstream.
    Established(CancelKeys),
    /// Judge it, record it, then [`Answer::Verdict`].
    Judge(Question),
    /// A judged operation has ended.
    Finished(Outcome),
    /// The agent asks to cancel what runs under this key on another connection.
    Cancel(CancelKey),
    /// Flush what is queued and close both sides.
    Close(CloseReason),
}

/// One operation that waits for its verdict.
#[derive(Debug, Clone)]
pub struct Question {
    /// Counts from 1 in each connection.
    pub number: u64,
    /// Where in its life the operation is.
    pub stage: Stage,
    /// What it does.
    pub operation: Arc<Operation>,
}

/// Where in its life an operation is when it is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Runs at once.
    Query,
    /// Is prepared; runs only after an [`Stage::Execute`] of its own.
    Prepare,
    /// A prepared one runs.
    Execute,
}

impl Stage {
    /// The word in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Prepare => "prepare",
            Self::Execute => "execute",
        }
    }
}

/// Answers to steps.
#[derive(Debug)]
pub enum Answer {
    /// To [`Step::Dial`]: connected.
    Dialled,
    /// To [`Step::Dial`] or [`Step::NeedCredential`]: it can't be had.
    Refused(Refusal),
    /// To [`Step::StartTls`]: the handshake is done and the peer's name verified.
    Secured,
    /// To [`Step::NeedCredential`].
    Credential(Credential),
    /// To [`Step::Judge`].
    Verdict(Verdict),
}

/// The decision on an operation, or that it could not be recorded.
#[derive(Debug)]
pub enum Verdict {
    /// What the policy said, already recorded.
    Decided(Arc<Decision>),
    /// The record could not be written: refuse whatever the policy said.
    NotRecorded,
}

/// Why a connection can't be opened; says who is to blame.
#[derive(Debug, Clone)]
pub enum Refusal {
    /// The policy admits no connection of this principal to this service.
    NotAdmitted(Denial),
    /// The upstream does not answer.
    Unreachable,
    /// The upstream answered with something else than its protocol, or its certificate
    /// did not verify.
    UpstreamBroken,
    /// Our own credential or configuration is unusable.
    Misconfigured,
    /// The audit log can't be written.
    NotRecorded,
}

/// What the agent asked for at start-up.
#[derive(Debug, Clone, Default)]
pub struct Opening {
    /// The user that the agent named; the upstream sees the service's user instead.
    pub user: String,
    /// The database that the agent named.
    pub database: String,
    /// The client's own name for itself.
    pub application: String,
}

/// What came of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The operation's number, as in [`Step::Judge`].
    pub number: u64,
    /// Rows sent to the agent, or changed where none were sent.
    pub rows: u64,
    /// Bytes sent to the agent for it.
    pub bytes: u64,
    /// SQLSTATE of the error that ended it.
    pub sqlstate: Option<Box<str>>,
    /// The server skipped it after an earlier error.
    pub skipped: bool,
}

/// A key that lets another connection cancel this one (PostgreSQL 55.2.9).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CancelKey {
    /// Backend process id.
    pub process: i32,
    /// Secret key; 4 bytes in protocol 3.0.
    pub secret: Vec<u8>,
}

/// The key that the agent holds, and the server's own that it stands for.
#[derive(Debug, Clone)]
pub struct CancelKeys {
    /// Made by the gate.
    pub agent: CancelKey,
    /// The server's.
    pub upstream: CancelKey,
}

/// Why the session wants the connection closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// The agent said goodbye.
    Finished,
    /// The agent's bytes are not the protocol: what was wrong.
    AgentProtocol(&'static str),
    /// The upstream's bytes are not the protocol: what was wrong.
    UpstreamProtocol(&'static str),
    /// The upstream refused our login; its own words, for the record only.
    UpstreamLogin(String),
    /// The connection was refused with this.
    Refused,
    /// The upstream went away.
    UpstreamGone,
}

/// A protocol's state machine for one connection.
pub trait Session: Send {
    /// Goes on until it needs something: takes from the incoming buffers, fills the outgoing.
    fn advance(&mut self, io: &mut Buffers) -> Step;

    /// Answers the last step. An answer that fits no question closes the connection.
    fn answer(&mut self, answer: Answer, io: &mut Buffers);

    /// The gate closes the connection: a last message to the agent, in its protocol's words.
    fn expel(&mut self, why: Expulsion, io: &mut Buffers);

    /// Whether something that the agent has sent waits for an answer of the upstream.
    fn is_waiting(&self) -> bool;

    /// Bytes that it holds beside the buffers, about.
    fn holds(&self) -> usize;

    /// The connection is over: the operations that were still running, for the record.
    fn abandon(&mut self) -> Vec<Outcome>;
}

/// Why the gate ends a connection on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expulsion {
    /// The daemon stops.
    Draining,
    /// The start-up took too long.
    TooSlow,
    /// The session or the permit to connect is gone.
    Revoked,
    /// The upstream closed the connection.
    UpstreamGone,
    /// Too many connections.
    TooMany,
    /// All connections together hold as much as they may.
    NoMemory,
}
