//! The states of one PostgreSQL connection: start-up, dialling, login, relay, closed.
//!
//! Each state is a type of its own that takes bytes and gives the next state or a step;
//! this file only moves between them. Invariant: the agent sees AuthenticationOk only
//! after the upstream let the gate in.

mod login;
mod pipeline;
mod relay;
mod startup;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::analyse::Cache;
use super::codec::message::ErrorMessage;
use super::enforce;
use crate::policy::Auth;
use crate::protocol::{Answer, Buffers, CloseReason, Expulsion, Outcome, Refusal, Session, Step};
use crate::types::ConnectionId;
use login::Login;
use relay::Relay;
use startup::Startup;

/// What the policy and the configuration say about this connection.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The user that the upstream sees, unless the agent names one of `users`.
    pub user: String,
    /// Further users that the agent may be.
    pub users: Vec<String>,
    /// The databases that the agent may name; empty for any.
    pub databases: Vec<String>,
    /// The schemas that unqualified names are looked up in; pinned at login. None: the
    /// server's own path, so that such a name stands for nothing that the gate knows.
    pub search_path: Option<Vec<String>>,
    /// Whether the upstream connection must be TLS.
    pub tls: bool,
    /// How the gate may log in.
    pub auth: Vec<Auth>,
    /// The longest message that the gate holds, in bytes.
    pub message_limit: usize,
}

enum State {
    Startup(Startup),
    Dialling(startup::Accepted),
    Login(Login),
    Relay(Box<Relay>),
    Closing(CloseReason),
}

/// A connection of an agent to a PostgreSQL service.
pub struct PostgresSession {
    settings: Arc<Settings>,
    cache: Arc<Cache>,
    /// Unpredictable; for the secret of the agent's cancel key and the decoys' two marks.
    seeds: [u64; 6],
    connection: ConnectionId,
    state: State,
    /// What still ran when the relay was closed.
    abandoned: Vec<Outcome>,
}

impl PostgresSession {
    /// A session that waits for the agent's start-up packet. `seeds` must be unpredictable.
    pub fn new(
        settings: Arc<Settings>,
        cache: Arc<Cache>,
        seeds: [u64; 6],
        connection: ConnectionId,
    ) -> Self {
        Self {
            settings,
            cache,
            seeds,
            connection,
            state: State::Startup(Startup::default()),
            abandoned: Vec::new(),
        }
    }

    fn close(&mut self, error: Option<&ErrorMessage>, reason: CloseReason, io: &mut Buffers) {
        if let Some(error) = error {
            error.write(&mut io.to_agent);
        }
        self.state = State::Closing(reason);
    }

    /// Runs the current state once; none when it has moved to another state.
    fn run(&mut self, io: &mut Buffers) -> Option<Step> {
        match &mut self.state {
            State::Startup(startup) => match startup.advance(&self.settings, io) {
                startup::Next::Step(step) => Some(step),
                startup::Next::Accepted(accepted) => {
                    let opening = accepted.opening.clone();
                    self.state = State::Dialling(accepted);
                    Some(Step::Dial(opening))
                }
                startup::Next::Refuse(error, reason) => {
                    self.close(Some(&error), reason, io);
                    None
                }
            },
            // Waits for an answer, not for bytes.
            State::Dialling(_) => Some(Step::Idle),
            State::Login(login) => match login.advance(io) {
                login::Next::Step(step) => Some(step),
                login::Next::Done(keys, statuses) => {
                    let cache = Arc::clone(&self.cache);
                    let [.., text, portal] = self.seeds;
                    let decoys = [text, portal];
                    match Relay::open(&self.settings, cache, decoys, self.connection, &statuses) {
                        Ok(relay) => {
                            self.state = State::Relay(Box::new(relay));
                            Some(Step::Established(keys))
                        }
                        Err(fault) => {
                            self.close(fault.error.as_ref(), fault.reason, io);
                            None
                        }
                    }
                }
                login::Next::Refuse(error, reason) => {
                    self.close(error.as_ref(), reason, io);
                    None
                }
            },
            State::Relay(relay) => match relay.advance(io) {
                Ok(step) => Some(step),
                Err(fault) => {
                    self.abandoned = relay.abandon();
                    // Inside a half-sent row an error would be read as part of the row.
                    let error = fault.error.as_ref().filter(|_| relay.may_speak());
                    self.close(error, fault.reason, io);
                    None
                }
            },
            State::Closing(reason) => Some(Step::Close(reason.clone())),
        }
    }

    fn dialled(&mut self, io: &mut Buffers) {
        let closed = State::Closing(CloseReason::Refused);
        self.state = match std::mem::replace(&mut self.state, closed) {
            State::Dialling(accepted) => State::Login(Login::start(
                accepted.upstream,
                &self.settings,
                secret(self.seeds, accepted.long_key),
                io,
            )),
            other => other,
        };
    }

    fn refused(&mut self, refusal: &Refusal, io: &mut Buffers) {
        self.close(Some(&enforce::refusal(refusal)), CloseReason::Refused, io);
    }
}

/// The secret that the agent gets: 4 bytes, or with protocol 3.2 as many as PostgreSQL 18's.
fn secret([secret @ .., _, _]: [u64; 6], long: bool) -> Vec<u8> {
    let secret = secret.into_iter().flat_map(u64::to_le_bytes);
    secret.take(if long { 32 } else { 4 }).collect()
}

impl Session for PostgresSession {
    fn advance(&mut self, io: &mut Buffers) -> Step {
        loop {
            if let Some(step) = self.run(io) {
                return step;
            }
        }
    }

    fn answer(&mut self, answer: Answer, io: &mut Buffers) {
        let awaited = match &self.state {
            State::Dialling(_) => matches!(answer, Answer::Dialled | Answer::Refused(_)),
            State::Login(login) => login.awaits(&answer),
            State::Relay(relay) => matches!(answer, Answer::Verdict(_)) && relay.is_judging(),
            State::Startup(startup) => {
                matches!(answer, Answer::AgentSecured) && startup.is_handshaking()
            }
            State::Closing(_) => false,
        };
        if !awaited {
            return self.close(None, CloseReason::Refused, io);
        }
        match (answer, &mut self.state) {
            (Answer::AgentSecured, State::Startup(startup)) => startup.secured(),
            (Answer::Dialled, State::Dialling(_)) => self.dialled(io),
            (Answer::Refused(refusal), State::Dialling(_) | State::Login(_)) => {
                self.refused(&refusal, io);
            }
            (Answer::Secured(binding), State::Login(login)) => login.secured(binding),
            (Answer::Credential(credential), State::Login(login)) => {
                login.credential(credential, io);
            }
            (Answer::Verdict(verdict), State::Relay(relay)) => relay.verdict(&verdict, io),
            _ => self.close(None, CloseReason::Refused, io),
        }
    }

    fn expel(&mut self, why: Expulsion, io: &mut Buffers) {
        let may_speak = match &mut self.state {
            State::Relay(relay) => {
                self.abandoned = relay.abandon();
                relay.may_speak()
            }
            State::Closing(_) => false,
            _ => true,
        };
        let error = may_speak.then(|| enforce::expulsion(why));
        self.close(error.as_ref(), CloseReason::UpstreamGone, io);
    }

    fn is_waiting(&self) -> bool {
        matches!(&self.state, State::Relay(relay) if relay.is_waiting())
    }

    fn holds(&self) -> usize {
        match &self.state {
            State::Relay(relay) => relay.holds(),
            _ => 0,
        }
    }

    fn abandon(&mut self) -> Vec<Outcome> {
        match &mut self.state {
            State::Relay(relay) => relay.abandon(),
            _ => std::mem::take(&mut self.abandoned),
        }
    }
}
