//! The open session: what the agent says is judged before it goes up, what the upstream
//! says is accounted for on its way down.
//!
//! The two directions are in `agent` (with `texts`) and `upstream` below; they meet in the [`Pipeline`].
//! Rows are passed on as they stream in and are never held whole.

mod agent;
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

impl Fault {
    fn encoding() -> Self {
        let text = "the gate can't read statements as this database would: \
                    its encoding is neither UTF8 nor SQL_ASCII";
        Self {
            error: Some(ErrorMessage::fatal("08004", text)),
            reason: CloseReason::UpstreamProtocol(
                "the database's encoding is not one that the gate reads",
            ),
        }
    }
}

impl From<OutOfOrder> for Fault {
    fn from(_: OutOfOrder) -> Self {
        Self::upstream("the service answered out of order")
    }
}

/// What the server reports of its encodings.
#[derive(Debug, Clone, Copy, Default)]
struct Encoding {
    /// The client's is UTF-8.
    utf8: bool,
    /// The client's was another one at some time in this session.
    ever_other: bool,
    /// The server's own is one in which names and quotes are what they are in UTF-8.
    server: Option<ServerEncoding>,
    /// `standard_conforming_strings` has been reported as on.
    conforming: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerEncoding {
    Utf8,
    /// None: bytes beyond ASCII are whatever the client says.
    Ascii,
}

/// A logged-in connection.
pub(super) struct Relay {
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
    encoding: Encoding,
    /// The first message that was unanswered when the agent's next one had to wait.
    waiting: Option<u64>,
    /// The agent has said goodbye: what it said before is still answered.
    goodbye: bool,
    steps: VecDeque<Step>,
}

impl Relay {
    /// `statuses` are the ParameterStatus messages of the login.
    pub(super) fn open(
        settings: &Settings,
        cache: Arc<Cache>,
        seeds: [u64; 2],
        connection: ConnectionId,
        statuses: &[u8],
    ) -> Result<Self, Fault> {
        let mut relay = Self {
            search_path: settings.search_path.clone(),
            message_limit: settings.message_limit,
            cache,
            connection,
            decoys: Decoys::new(seeds),
            pipeline: Pipeline::default(),
            held: None,
            operations: 0,
            passing: 0,
            farewell: false,
            encoding: Encoding::default(),
            waiting: None,
            goodbye: false,
            steps: VecDeque::new(),
        };
        let mut rest = statuses;
        while let Ok(Some(frame)) = head(rest)
            && let Some((message, behind)) = rest.split_at_checked(frame.len)
        {
            relay.take_status(message)?;
            rest = behind;
        }
        match (relay.encoding.server, relay.encoding.conforming) {
            (Some(_), true) => Ok(relay),
            (None, _) => Err(Fault::encoding()),
            (_, false) => Err(Fault::upstream("standard_conforming_strings is not on")),
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
