//! The open session: what the agent says is judged before it goes up, what the upstream
//! says is accounted for on its way down.
//!
//! The two directions are in `agent` (with `texts`) and `upstream` below; they meet in the [`Pipeline`].
//! Rows are passed on as they stream in and are never held whole.

mod agent;
mod shape;
mod texts;
mod upstream;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, BytesMut};

use super::Settings;
use super::pipeline::{OutOfOrder, Pipeline};
use crate::protocol::postgres::analyse::Cache;
use crate::protocol::postgres::codec::message::ErrorMessage;
use crate::protocol::postgres::codec::{Malformed, head};
use crate::protocol::postgres::enforce::Decoys;
use crate::protocol::{Buffers, CloseReason, Outcome, Step};
use crate::types::{ConnectionId, RequestId};
use agent::Held;

/// What ends the session: who is told what.
pub(super) struct Fault {
    pub(super) error: Option<ErrorMessage>,
    pub(super) reason: CloseReason,
}

impl Fault {
    fn agent(what: &'static str) -> Self {
        Self {
            error: Some(ErrorMessage::fatal("08P01", what)),
            reason: CloseReason::AgentProtocol(what),
        }
    }

    fn upstream(what: &'static str) -> Self {
        Self {
            error: Some(ErrorMessage::fatal(
                "08P01",
                "the service broke the protocol",
            )),
            reason: CloseReason::UpstreamProtocol(what),
        }
    }
}

impl From<OutOfOrder> for Fault {
    fn from(_: OutOfOrder) -> Self {
        Self::upstream("the service answered out of order")
    }
}

/// What the server reports of the settings by which it reads texts; none before it does.
#[derive(Debug, Clone, Copy, Default)]
struct Reading {
    /// The client's encoding is UTF-8.
    client_utf8: Option<bool>,
    /// The server's own.
    server: Option<ServerEncoding>,
    /// Whether `standard_conforming_strings` is on.
    conforming: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerEncoding {
    Utf8,
    /// SQL_ASCII, where bytes beyond ASCII are whatever the client says, or another one. In
    /// each that a server may have, ASCII stands for itself only (manual 24.3.1), so that a
    /// text of nothing else is what it seems to be.
    Other,
}

/// A logged-in connection.
pub(super) struct Relay {
    /// Empty where the gate does not pin it.
    search_path: Vec<String>,
    message_limit: usize,
    cache: Arc<Cache>,
    connection: ConnectionId,
    decoys: Decoys,
    pipeline: Pipeline,
    /// The message that waits for its verdict.
    held: Option<Held>,
    operations: u64,
    /// Bytes of the current upstream message that are still to be passed on.
    passing: usize,
    /// The upstream has said why it closes.
    farewell: bool,
    reading: Reading,
    /// The first message that was unanswered when the agent's next one had to wait.
    waiting: Option<u64>,
    /// The agent has said goodbye: what it said before is still answered.
    goodbye: bool,
    steps: VecDeque<Step>,
}

impl Relay {
    /// `statuses` are the ParameterStatus messages of the login, and its notices.
    pub(super) fn open(
        settings: &Settings,
        cache: Arc<Cache>,
        seeds: [u64; 2],
        connection: ConnectionId,
        statuses: &[u8],
    ) -> Result<Self, Fault> {
        let mut relay = Self {
            search_path: settings.search_path.clone().unwrap_or_default(),
            message_limit: settings.message_limit,
            cache,
            connection,
            decoys: Decoys::new(seeds),
            pipeline: Pipeline::default(),
            held: None,
            operations: 0,
            passing: 0,
            farewell: false,
            reading: Reading::default(),
            waiting: None,
            goodbye: false,
            steps: VecDeque::new(),
        };
        let mut rest = statuses;
        while let Ok(Some(frame)) = head(rest)
            && let Some((message, behind)) = rest.split_at_checked(frame.len)
        {
            if frame.tag == b'S' {
                relay.take_status(message)?;
            }
            rest = behind;
        }
        match relay.reading {
            Reading {
                client_utf8: Some(_),
                server: Some(_),
                conforming: Some(_),
            } => Ok(relay),
            _ => Err(Fault::upstream(
                "a setting that reading depends on is not reported",
            )),
        }
    }

    /// Goes on in both directions until a step is due.
    pub(super) fn advance(&mut self, io: &mut Buffers) -> Result<Step, Fault> {
        self.read_upstream(io)?;
        if self.steps.is_empty() && self.held.is_none() {
            self.read_agent(io)?;
        }
        if self.steps.is_empty() && self.goodbye && self.pipeline.next().is_none() {
            return Ok(Step::Close(CloseReason::Finished));
        }
        Ok(self.steps.pop_front().unwrap_or(Step::Idle))
    }

    /// Whether a message waits for its verdict.
    pub(super) fn is_judging(&self) -> bool {
        self.held.is_some()
    }

    /// Whether what the agent has sent waits for an answer of the upstream.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Bytes of the operations that its names and unanswered messages stand for.
    pub(super) fn holds(&self) -> usize {
        self.pipeline.account().bytes()
    }

    fn request(&self, number: u64) -> RequestId {
        RequestId {
            connection: self.connection,
            number,
        }
    }

    /// Whether the agent can still be told something: not inside a message, and not after
    /// the upstream's own last words.
    pub(super) fn may_speak(&self) -> bool {
        self.passing == 0 && !self.farewell
    }

    /// The upstream is gone: what ran ends here.
    pub(super) fn abandon(&mut self) -> Vec<Outcome> {
        self.pipeline.abandon()
    }
}

fn malformed(_: Malformed) -> Fault {
    Fault::agent("a message that does not follow the protocol")
}

/// Bytes that are copied rather than handed over: a copy of so few costs less than new
/// memory for the next ones.
const COPIED: usize = 8 * 1024;

/// Moves the first `len` bytes; many of them without copying where the target is empty.
fn pass(target: &mut BytesMut, source: &mut BytesMut, len: usize) {
    if len > COPIED && target.is_empty() {
        *target = source.split_to(len);
    } else {
        target.extend_from_slice(source.get(..len).unwrap_or_default());
        source.advance(len);
    }
}
