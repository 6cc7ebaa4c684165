//! The upstream's side of the start-up: TLS, StartupMessage, SCRAM-SHA-256 (RFC 7677).
//!
//! Only SCRAM is accepted: a server that asks for cleartext or MD5 does not get the
//! password, and one that asks for nothing has not proved who it is. The upstream's own
//! words about a failed login go to the record, never to the agent; those about what the
//! agent asked for, once the login is through, go to both.

use bytes::BytesMut;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};

use crate::protocol::postgres::codec::message::{self, ErrorMessage};
use crate::protocol::postgres::codec::{Fields, Frame, HEADER, Malformed, whole};
use crate::protocol::postgres::enforce::{self, error_field};
use crate::protocol::{Buffers, CancelKey, CancelKeys, CloseReason, Refusal, Step};
use crate::types::{Credential, Secret};

/// Messages of a login are short; PostgreSQL's own clients bound them likewise.
const LOGIN_MESSAGE_LIMIT: usize = 32 * 1024;
/// All settings that a server reports take a few hundred bytes.
const STATUSES_LIMIT: usize = 64 * 1024;
/// Rounds of SHA-256 that a server may ask for (its default is 4,096): they cost our time.
const ROUNDS_LIMIT: u32 = 1_000_000;

enum State {
    AwaitingTls,
    /// As private as it has to be; nothing is said yet.
    Secured,
    /// The proxy is at the TLS handshake, or at the vault.
    Held,
    Authenticating(Secret),
    Scram(Box<ScramSha256>),
    Proven,
    AwaitingReady,
}

/// A login in progress.
pub(super) struct Login {
    state: State,
    parameters: Vec<(String, String)>,
    seed: u64,
    /// ParameterStatus and NoticeResponse messages as they came, for the agent.
    statuses: BytesMut,
    key: Option<CancelKey>,
}

pub(super) enum Next {
    Step(Step),
    Done(CancelKeys, BytesMut),
    /// With an error for the agent, unless it has one already.
    Refuse(Option<ErrorMessage>, CloseReason),
}

impl Login {
    /// Says the first thing to a freshly connected upstream.
    pub(super) fn start(
        parameters: Vec<(String, String)>,
        tls: bool,
        seed: u64,
        io: &mut Buffers,
    ) -> Self {
        let mut login = Self {
            state: State::AwaitingTls,
            parameters,
            seed,
            statuses: BytesMut::new(),
            key: None,
        };
        if tls {
            io.to_upstream.extend_from_slice(&message::SSL_REQUEST);
        } else {
            login.secured();
        }
        login
    }

    /// The connection is as private as it has to be.
    pub(super) fn secured(&mut self) {
        self.state = State::Secured;
    }

    /// The service's credential has come: introduce ourselves, as its user if it has one.
    pub(super) fn credential(&mut self, credential: Credential, io: &mut Buffers) {
        if let Some(user) = credential.user {
            let users = self
                .parameters
                .iter_mut()
                .filter(|(name, _)| name == "user");
            users.for_each(|(_, value)| value.clone_from(&user));
        }
        let pairs = self
            .parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        message::startup(&mut io.to_upstream, pairs);
        self.state = State::Authenticating(credential.secret);
    }

    pub(super) fn advance(&mut self, io: &mut Buffers) -> Next {
        match self.state {
            State::AwaitingTls => self.tls_answer(io),
            State::Secured => {
                self.state = State::Held;
                Next::Step(Step::NeedCredential)
            }
            State::Held => Next::Step(Step::Idle),
            _ => self.messages(io),
        }
    }

    fn tls_answer(&mut self, io: &mut Buffers) -> Next {
        match io.from_upstream.first() {
            None => Next::Step(Step::Idle),
            // Bytes behind the S were not protected: somebody may have put them there.
            Some(b'S') if io.from_upstream.len() == 1 => {
                io.from_upstream.clear();
                self.state = State::Held;
                Next::Step(Step::StartTls)
            }
            Some(b'N') => broken("the service has no TLS, and the policy asks for it"),
            Some(_) => broken("the service's answer to the request for TLS is not PostgreSQL's"),
        }
    }

    fn messages(&mut self, io: &mut Buffers) -> Next {
        loop {
            let frame = match whole(&io.from_upstream, LOGIN_MESSAGE_LIMIT) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Next::Step(Step::Idle),
                Err(_) => return broken("the service's login messages are not PostgreSQL's"),
            };
            let bytes = io.from_upstream.split_to(frame.len);
            match self.message(frame, &bytes, io) {
                Ok(None) => {}
                Ok(Some(next)) => return next,
                Err(_) => return broken("a login message of the service is malformed"),
            }
        }
    }

    fn message(
        &mut self,
        frame: Frame,
        bytes: &[u8],
        io: &mut Buffers,
    ) -> Result<Option<Next>, Malformed> {
        match (frame.tag, &mut self.state) {
            (b'R', _) => self.authentication(bytes, io),
            (b'E', _) => Ok(Some(self.rejected(bytes, io))),
            // Before the login is through, notices are for the gate's operator; then they are
            // about what the agent asked for.
            (b'v', _) => Ok(None),
            (b'S' | b'N', State::AwaitingReady) => {
                if self.statuses.len() + bytes.len() > STATUSES_LIMIT {
                    return Ok(Some(broken("the service reports too many settings")));
                }
                self.statuses.extend_from_slice(bytes);
                Ok(None)
            }
            (b'N', _) => Ok(None),
            (b'K', State::AwaitingReady) => {
                let mut fields = Fields::of_frame(bytes);
                let process = fields.int32()?;
                self.key = Some(CancelKey {
                    process,
                    secret: fields.rest().to_vec(),
                });
                Ok(None)
            }
            (b'Z', State::AwaitingReady) => Ok(Some(self.ready(bytes, io))),
            _ => Ok(Some(broken(
                "a login message of the service came out of turn",
            ))),
        }
    }

    fn authentication(
        &mut self,
        bytes: &[u8],
        io: &mut Buffers,
    ) -> Result<Option<Next>, Malformed> {
        let mut fields = Fields::of_frame(bytes);
        let next = match (fields.int32()?, &mut self.state) {
            // The server proves itself in SCRAM's last message; an impostor could let us
            // in unasked and be told the agent's statements.
            (0, State::Proven) => {
                self.state = State::AwaitingReady;
                None
            }
            (0, State::Authenticating(_)) => Some(broken(
                "the service asks for no credential, so it proves nothing either",
            )),
            (10, State::Authenticating(secret)) => {
                let mechanisms = bytes.get(HEADER + 4..).unwrap_or_default();
                if mechanisms
                    .split(|&byte| byte == 0)
                    .any(|name| name == SCRAM_SHA_256.as_bytes())
                {
                    let scram = ScramSha256::new(secret.expose(), ChannelBinding::unsupported());
                    message::sasl_initial(&mut io.to_upstream, SCRAM_SHA_256, scram.message());
                    self.state = State::Scram(Box::new(scram));
                    None
                } else {
                    Some(broken("the service offers no SCRAM-SHA-256"))
                }
            }
            (11, State::Scram(_)) if rounds(fields.rest()) > ROUNDS_LIMIT => {
                Some(broken("the service asks for too many rounds of SCRAM"))
            }
            (11, State::Scram(scram)) => match scram.update(fields.rest()) {
                Ok(()) => {
                    message::sasl_response(&mut io.to_upstream, scram.message());
                    None
                }
                Err(_) => Some(broken("the service's SCRAM message is wrong")),
            },
            (12, State::Scram(scram)) => match scram.finish(fields.rest()) {
                Ok(()) => {
                    self.state = State::Proven;
                    None
                }
                Err(_) => Some(broken(
                    "the service could not prove that it knows the credential",
                )),
            },
            (3 | 5, _) => Some(broken(
                "the service asks for a cleartext or MD5 password; the gate answers only SCRAM",
            )),
            _ => Some(broken(
                "the service asks for an authentication that the gate has not",
            )),
        };
        Ok(next)
    }

    fn rejected(&self, bytes: &[u8], io: &mut Buffers) -> Next {
        let field = |letter| {
            String::from_utf8_lossy(error_field(bytes, letter).unwrap_or_default()).into_owned()
        };
        let (code, text) = (field(b'C'), field(b'M'));
        let reason = CloseReason::UpstreamLogin(format!("{code} {text}"));
        // The credential is accepted, so this is about the database or a setting that the
        // agent named; class 28 is about the gate's own user all the same.
        if matches!(self.state, State::AwaitingReady) && !code.starts_with("28") {
            io.to_agent.extend_from_slice(bytes);
            return Next::Refuse(None, reason);
        }
        // What the agent can act on is passed on; what concerns the credential is not.
        let error = match code.as_str() {
            "53300" => ErrorMessage::fatal("53300", "the service has no connection left"),
            "57P03" => ErrorMessage::fatal("57P03", "the service is starting up or shutting down"),
            _ => enforce::refusal(&Refusal::Misconfigured),
        };
        Next::Refuse(Some(error), reason)
    }

    fn ready(&mut self, bytes: &[u8], io: &mut Buffers) -> Next {
        let Some(upstream) = self.key.take() else {
            return broken("the service sent no cancel key");
        };
        let agent = CancelKey {
            // Clients know their own notifications, and who blocks whom, by it.
            process: upstream.process,
            secret: self.seed.to_le_bytes().iter().copied().take(4).collect(),
        };
        message::authentication_ok(&mut io.to_agent);
        io.to_agent.extend_from_slice(&self.statuses);
        message::backend_key(&mut io.to_agent, &agent);
        io.to_agent.extend_from_slice(bytes);
        Next::Done(
            CancelKeys { agent, upstream },
            std::mem::take(&mut self.statuses),
        )
    }
}

/// `i=` of SCRAM's first server message (RFC 5802, section 7); 0 if it has none, which is
/// not for us to find wrong.
fn rounds(message: &[u8]) -> u32 {
    let attributes = message.split(|&byte| byte == b',');
    let mut rounds = attributes.filter_map(|attribute| attribute.strip_prefix(b"i="));
    match rounds.next().map(std::str::from_utf8) {
        Some(Ok(rounds)) => rounds.parse().unwrap_or(u32::MAX),
        _ => 0,
    }
}

fn broken(what: &'static str) -> Next {
    Next::Refuse(
        Some(enforce::refusal(&Refusal::UpstreamBroken)),
        CloseReason::UpstreamProtocol(what),
    )
}

#[cfg(test)]
mod tests;
