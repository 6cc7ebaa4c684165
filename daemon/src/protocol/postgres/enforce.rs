//! A denial, as the server and the agent each see it.
//!
//! A denied message is replaced by one that the server is sure to answer with an error
//! (the *decoy*), and the server's error is replaced by the denial. So order, transaction
//! state and skip-to-Sync are the server's own, and the two sides' ideas of the session
//! never part. A decoy carries a random mark, so that only its own error is replaced. The
//! mark of texts can be seen in the server's views; that of portals is shown by nothing, so
//! that nobody can make a portal which a decoy would run.

use bytes::BytesMut;

use super::codec::message::{self, ErrorMessage, Severity};
use super::codec::{Fields, HEADER};
use crate::policy::{Decision, Denial};
use crate::protocol::{Expulsion, Refusal, Verdict};
use crate::types::RequestId;

/// Makes decoys and knows their errors again.
#[derive(Debug)]
pub(super) struct Decoys {
    text: String,
    portal: String,
}

/// The kinds of message that can be denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied<'a> {
    /// A simple query or a function call: answered with an error and ReadyForQuery.
    Query,
    /// Parse of the named statement.
    Parse(&'a [u8]),
    /// Execute of a portal.
    Execute,
}

impl Decoys {
    /// The seeds must be unpredictable to the agent, and one from the other.
    pub(super) fn new(seeds: [u64; 2]) -> Self {
        let [text, portal] = seeds.map(|seed| format!("portcullis_denied_{seed:016x}"));
        Self { text, portal }
    }

    /// Appends what the upstream gets in place of the denied message.
    pub(super) fn write(&self, denied: Denied<'_>, to_upstream: &mut BytesMut) {
        match denied {
            // No grammar has a statement of one such word: a syntax error.
            Denied::Query => message::query(to_upstream, &self.text),
            // The same name, so that the server forgets what a failed Parse forgets.
            Denied::Parse(name) => {
                message::framed(to_upstream, b'P', |out| {
                    out.extend_from_slice(name);
                    out.extend_from_slice(&[0]);
                    message::put_text(out, &self.text);
                    out.extend_from_slice(&[0, 0]);
                });
            }
            // No portal has this name: an undefined-cursor error.
            Denied::Execute => message::execute(to_upstream, &self.portal),
        }
    }

    /// Whether an ErrorResponse or NoticeResponse (whole frame) speaks of a decoy.
    pub(super) fn shows_in(&self, frame: &[u8]) -> bool {
        [&self.text, &self.portal]
            .iter()
            .any(|mark| memmem(frame, mark.as_bytes()))
    }
}

fn memmem(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// One field of an ErrorResponse or NoticeResponse (whole frame), by its letter.
pub(super) fn error_field(frame: &[u8], letter: u8) -> Option<&[u8]> {
    let mut fields = Fields::of_body(frame.get(HEADER..)?);
    loop {
        match fields.byte() {
            Ok(0) | Err(_) => return None,
            Ok(found) => {
                let value = fields.bytes().ok()?;
                if found == letter {
                    return Some(value);
                }
            }
        }
    }
}

/// What the agent sees in place of a decoy's error; none when the verdict is an allow.
pub(super) fn denial(verdict: &Verdict, request: RequestId) -> Option<ErrorMessage> {
    match verdict {
        Verdict::NotRecorded => Some(ErrorMessage {
            severity: Severity::Error,
            code: "58030",
            message: "the audit record can't be written, so nothing runs".into(),
            detail: format!("Request {request}."),
            hint: "Try again when the host's administrator has made room for the audit log.".into(),
        }),
        Verdict::Decided(decision) => match decision.as_ref() {
            Decision::Allow(_) => None,
            Decision::Deny(denial) => Some(denied(denial, request)),
        },
    }
}

fn denied(denial: &Denial, request: RequestId) -> ErrorMessage {
    let rule = match &denial.rule {
        Some(rule) => format!("Rule {rule}, request {request}."),
        None => format!("No rule allows it, request {request}."),
    };
    ErrorMessage {
        severity: Severity::Error,
        code: "42501",
        message: denial.message().into(),
        detail: rule,
        hint: denial.hint().unwrap_or_default().into(),
    }
}

/// What the agent sees when its connection is not opened.
pub(super) fn refusal(refusal: &Refusal) -> ErrorMessage {
    match refusal {
        Refusal::NotAdmitted(denial) => {
            let mut error = ErrorMessage::fatal("42501", denial.message());
            error.hint = denial.hint().unwrap_or_default().into();
            error
        }
        Refusal::Unreachable => ErrorMessage::fatal("08001", "the service does not answer"),
        Refusal::UpstreamBroken => ErrorMessage::fatal(
            "08P01",
            "the service answered with something that the gate does not accept",
        ),
        Refusal::Misconfigured => ErrorMessage::fatal(
            "08004",
            "the gate can't log in at the service; its log says why",
        ),
        Refusal::NotRecorded => ErrorMessage::fatal(
            "58030",
            "the audit record can't be written, so nothing is connected",
        ),
    }
}

/// What the agent sees when the gate ends its connection.
pub(super) fn expulsion(why: Expulsion) -> ErrorMessage {
    match why {
        Expulsion::Draining => ErrorMessage::fatal("57P01", "the gate is shutting down"),
        Expulsion::TooSlow => ErrorMessage::fatal("08006", "the start-up took too long"),
        Expulsion::Revoked => ErrorMessage::fatal("57P01", "the agent session has ended"),
        Expulsion::UpstreamGone => {
            ErrorMessage::fatal("08006", "the service closed the connection")
        }
        Expulsion::TooMany => ErrorMessage::fatal("53300", "too many connections at the gate"),
        Expulsion::NoMemory => ErrorMessage::fatal(
            "53200",
            "the gate has no memory left for a message of this size",
        ),
    }
}
