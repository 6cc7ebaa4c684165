//! The upstream's side of the start-up: TLS, StartupMessage, what follows it up to the
//! first ReadyForQuery. How the gate proves who it is stands in `prove` below.
//!
//! Invariant: nothing of a session is believed before the login is proved. The upstream's
//! own words about a failed login go to the record, never to the agent; those about what
//! the agent asked for, once the login is through, go to both.

mod prove;

use bytes::BytesMut;

use super::Settings;
use crate::policy::Auth;
use crate::protocol::postgres::codec::message::{self, ErrorMessage};
use crate::protocol::postgres::codec::startup::KEY_LENGTHS;
use crate::protocol::postgres::codec::{Fields, Frame, Malformed, whole};
use crate::protocol::postgres::enforce::{self, error_field};
use crate::protocol::{
    Answer, Binding, Buffers, CancelKey, CancelKeys, CloseReason, Refusal, Step,
};
use crate::types::Credential;
use prove::Proof;

/// Messages of a login are short; PostgreSQL's own clients bound them likewise.
const LOGIN_MESSAGE_LIMIT: usize = 32 * 1024;
/// All settings that a server reports take a few hundred bytes.
const STATUSES_LIMIT: usize = 64 * 1024;

enum State {
    AwaitingTls,
    /// As private as it has to be; nothing is said yet.
    Secured,
    /// The proxy is at the TLS handshake.
    Handshaking,
    /// The proxy is at the vault.
    Asking,
    Proving(Proof),
    AwaitingReady,
}

/// A login in progress.
pub(super) struct Login {
    state: State,
    auth: Vec<Auth>,
    /// Of the TLS connection; none without TLS.
    binding: Option<Binding>,
    parameters: Vec<(String, String)>,
    /// The secret of the agent's cancel key, made by the gate.
    secret: Vec<u8>,
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
        settings: &Settings,
        secret: Vec<u8>,
        io: &mut Buffers,
    ) -> Self {
        let mut login = Self {
            state: State::AwaitingTls,
            auth: settings.auth.clone(),
            binding: None,
            parameters,
            secret,
            statuses: BytesMut::new(),
            key: None,
        };
        if settings.tls {
            io.to_upstream.extend_from_slice(&message::SSL_REQUEST);
        } else {
            login.state = State::Secured;
        }
        login
    }

    /// Whether it has asked for this.
    pub(super) fn awaits(&self, answer: &Answer) -> bool {
        match answer {
            Answer::Secured(_) => matches!(self.state, State::Handshaking),
            Answer::Credential(_) => matches!(self.state, State::Asking),
            Answer::Refused(_) => matches!(self.state, State::Handshaking | State::Asking),
            Answer::Dialled | Answer::AgentSecured | Answer::Verdict(_) => false,
        }
    }

    /// The connection is as private as it has to be.
    pub(super) fn secured(&mut self, binding: Binding) {
        self.binding = Some(binding);
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
        self.introduce(Proof::new(Some(credential.secret)), io);
    }

    fn introduce(&mut self, proof: Proof, io: &mut Buffers) {
        let pairs = self
            .parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        message::startup(&mut io.to_upstream, pairs);
        self.state = State::Proving(proof);
    }

    pub(super) fn advance(&mut self, io: &mut Buffers) -> Next {
        match self.state {
            State::AwaitingTls => self.tls_answer(io),
            // The certificate has been shown, and there is nothing else to show.
            State::Secured if self.auth == [Auth::Cert] => {
                self.introduce(Proof::new(None), io);
                self.messages(io)
            }
            State::Secured => {
                self.state = State::Asking;
                Next::Step(Step::NeedCredential)
            }
            State::Handshaking | State::Asking => Next::Step(Step::Idle),
            _ => self.messages(io),
        }
    }

    fn tls_answer(&mut self, io: &mut Buffers) -> Next {
        match io.from_upstream.first() {
            None => Next::Step(Step::Idle),
            // Bytes behind the S were not protected: somebody may have put them there.
            Some(b'S') if io.from_upstream.len() == 1 => {
                io.from_upstream.clear();
                self.state = State::Handshaking;
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
                let secret = fields.rest().to_vec();
                if !KEY_LENGTHS.contains(&secret.len()) {
                    return Err(Malformed::Length);
                }
                self.key = Some(CancelKey { process, secret });
                Ok(None)
            }
            (b'Z', State::AwaitingReady) => Ok(Some(self.ready(bytes, io))),
            _ => Ok(Some(broken(
                "a login message of the service came out of turn",
            ))),
        }
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
            secret: self.secret.clone(),
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

fn broken(what: &'static str) -> Next {
    Next::Refuse(
        Some(enforce::refusal(&Refusal::UpstreamBroken)),
        CloseReason::UpstreamProtocol(what),
    )
}

#[cfg(test)]
mod tests;
