//! What the agent may ask for before its StartupMessage, in the order that the server takes
//! it (`ProcessSSLStartup` and `ProcessStartupPacket` of PostgreSQL 17).
//!
//! TLS once, by SSLRequest or by a ClientHello as the very first byte; GSSAPI once and not
//! inside TLS, always answered "no". Invariant: nothing that came in clear text behind an
//! SSLRequest is read as if it had come by TLS (CVE-2021-23222).

use super::Next;
use crate::protocol::postgres::codec::message::ErrorMessage;
use crate::protocol::{Buffers, CloseReason, Hello, Step};

/// The type of a TLS record that holds a handshake message (RFC 8446, 5.1). No start-up
/// packet begins with it: it would be longer than any is.
const HANDSHAKE: u8 = 0x16;

/// How far the agent is with asking.
#[derive(Debug, Default)]
pub(super) struct Encryption {
    stage: Stage,
    /// SSLRequest and GSSENCRequest are answered once each.
    tls_answered: bool,
    gssapi_answered: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Not a byte has come.
    #[default]
    First,
    Clear,
    /// The proxy is at the handshake.
    Handshake(Hello),
    Tls,
}

/// An order that the server does not take.
#[derive(Debug)]
pub(super) enum Misplaced {
    /// Clear text behind an SSLRequest.
    ClearText,
    /// Asked a second time, or inside TLS; the packet's minor version.
    Again(u16),
}

impl Encryption {
    /// Looks at the first byte; a step while there is nothing to read for the start-up.
    pub(super) fn before(&mut self, from_agent: &[u8]) -> Option<Step> {
        match (&self.stage, from_agent.first()) {
            (Stage::First, Some(&HANDSHAKE)) => {
                self.stage = Stage::Handshake(Hello::Direct);
                Some(Step::AgentTls(Hello::Direct))
            }
            (Stage::First, Some(_)) => {
                self.stage = Stage::Clear;
                None
            }
            (Stage::Handshake(_), _) => Some(Step::Idle),
            _ => None,
        }
    }

    /// Whether the proxy is at it.
    pub(super) fn is_handshaking(&self) -> bool {
        matches!(self.stage, Stage::Handshake(_))
    }

    /// The handshake is done.
    pub(super) fn secured(&mut self) {
        // An SSLRequest inside direct TLS is answered "no", as the server does.
        self.gssapi_answered |= self.stage == Stage::Handshake(Hello::Asked);
        self.stage = Stage::Tls;
    }

    /// SSLRequest.
    pub(super) fn asked_for_tls(&mut self, io: &mut Buffers) -> Result<Option<Step>, Misplaced> {
        if std::mem::replace(&mut self.tls_answered, true) {
            return Err(Misplaced::Again(5679));
        }
        if self.stage == Stage::Tls {
            io.to_agent.extend_from_slice(b"N");
            return Ok(None);
        }
        if !io.from_agent.is_empty() {
            return Err(Misplaced::ClearText);
        }
        io.to_agent.extend_from_slice(b"S");
        self.stage = Stage::Handshake(Hello::Asked);
        Ok(Some(Step::AgentTls(Hello::Asked)))
    }

    /// GSSENCRequest.
    pub(super) fn asked_for_gssapi(&mut self, io: &mut Buffers) -> Result<(), Misplaced> {
        if std::mem::replace(&mut self.gssapi_answered, true) {
            return Err(Misplaced::Again(5680));
        }
        io.to_agent.extend_from_slice(b"N");
        Ok(())
    }
}

impl From<Misplaced> for Next {
    fn from(misplaced: Misplaced) -> Self {
        let (error, what) = match misplaced {
            Misplaced::ClearText => {
                let what = "unencrypted data behind its request for TLS";
                let mut error =
                    ErrorMessage::fatal("08P01", "received unencrypted data after SSL request");
                error.detail = "This could be either a client-software bug or evidence of an \
                                attempted man-in-the-middle attack."
                    .into();
                (error, what)
            }
            Misplaced::Again(minor) => {
                let text = format!(
                    "unsupported frontend protocol 1234.{minor}: server supports 3.0 to 3.0"
                );
                let what = "asked for encryption out of turn";
                (ErrorMessage::fatal("0A000", text), what)
            }
        };
        Self::Refuse(error, CloseReason::AgentProtocol(what))
    }
}

#[cfg(test)]
mod tests;
