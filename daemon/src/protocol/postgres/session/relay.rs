//! The open session: what the agent says is judged before it goes up, what the upstream
//! says is accounted for on its way down.
//!
//! The two directions are in `agent` and `upstream` below; they meet in the [`Pipeline`].
//! Rows are passed on as they stream in and are never held whole.

mod agent;
mod upstream;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;

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
    /// The client encoding is UTF-8, so that any text can be read.
    utf8: bool,
    steps: VecDeque<Step>,
}

impl Relay {
    /// `statuses` are the ParameterStatus messages of the login.
    pub(super) fn open(
        settings: &Settings,
        cache: Arc<Cache>,
        seed: u64,
        connection: ConnectionId,
        statuses: &[u8],
    ) -> Result<Self, Fault> {
        let mut relay = Self {
            search_path: settings.search_path.clone(),
            message_limit: settings.message_limit,
            cache,
            connection,
            decoys: Decoys::new(seed),
            pipeline: Pipeline::default(),
            held: None,
            operations: 0,
            passing: 0,
            farewell: false,
            utf8: false,
            steps: VecDeque::new(),
        };
        let mut rest = statuses;
        while let Ok(Some(frame)) = head(rest)
            && let Some((message, behind)) = rest.split_at_checked(frame.len)
        {
            relay.take_status(message)?;
            rest = behind;
        }
        Ok(relay)
    }

    /// Goes on in both directions until a step is due.
    pub(super) fn advance(&mut self, io: &mut Buffers) -> Result<Step, Fault> {
        self.read_upstream(io)?;
        if self.steps.is_empty() && self.held.is_none() {
            self.read_agent(io)?;
        }
        Ok(self.steps.pop_front().unwrap_or(Step::Idle))
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

/// Moves bytes without copying them where the target is empty.
fn pass(target: &mut BytesMut, bytes: BytesMut) {
    if target.is_empty() {
        *target = bytes;
    } else {
        target.extend_from_slice(&bytes);
    }
}
