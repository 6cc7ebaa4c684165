//! How the gate proves who it is, and the upstream that it knows the credential too:
//! SCRAM-SHA-256 (RFC 5802, 7677), bound to the TLS connection where there is one.
//!
//! What else a server may ask for (MD5, the password itself, nothing because of the client
//! certificate) is answered only where the policy lists it. A server over TLS is not talked
//! down: what the gate can do is part of what both sides sign.

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};

use super::{Login, Next, State, broken};
use crate::policy::Auth;
use crate::protocol::postgres::codec::{Fields, Malformed, message};
use crate::protocol::{Binding, Buffers};
use crate::types::Secret;

/// Rounds of SHA-256 that a server may ask for (its default is 4,096): they cost our time.
const ROUNDS_LIMIT: u32 = 100_000;

/// How far the proof is.
pub(super) enum Proof {
    /// The server has not said what it asks for.
    Unasked(Option<Secret>),
    Scram(Box<ScramSha256>),
    /// The server has proved itself, or the policy asks for no proof but TLS.
    Given,
}

/// What the server must not do, as the record says it.
type Wrong = &'static str;

impl Proof {
    pub(super) fn new(secret: Option<Secret>) -> Self {
        Self::Unasked(secret)
    }
}

impl Login {
    /// One of the server's authentication messages (manual 55.7, `Authentication...`).
    pub(super) fn authentication(
        &mut self,
        frame: &[u8],
        io: &mut Buffers,
    ) -> Result<Option<Next>, Malformed> {
        let mut fields = Fields::of_frame(frame);
        let kind = fields.int32()?;
        let body = fields.rest();
        let State::Proving(proof) = &mut self.state else {
            return Ok(Some(broken("the service authenticates twice")));
        };
        let given = match (kind, proof) {
            (0, _) => self.let_in(),
            (3, Proof::Unasked(_)) => self.cleartext(body, io),
            (5, Proof::Unasked(_)) => self.md5(body, io),
            (10, Proof::Unasked(_)) => self.begin_scram(body, io),
            (11, Proof::Scram(scram)) => go_on(scram, body, io),
            (12, Proof::Scram(scram)) => match scram.finish(body) {
                Ok(()) => {
                    self.state = State::Proving(Proof::Given);
                    Ok(())
                }
                Err(_) => Err("the service could not prove that it knows the credential"),
            },
            (3 | 5, _) => Err("the service asks for a cleartext or MD5 password out of turn"),
            _ => Err("the service asks for an authentication that the gate has not"),
        };
        Ok(given.err().map(broken))
    }

    /// AuthenticationOk. A server that has proved nothing may be an impostor that lets us in
    /// unasked, to be told the agent's statements.
    fn let_in(&mut self) -> Result<(), Wrong> {
        match self.state {
            State::Proving(Proof::Given) => {}
            State::Proving(Proof::Unasked(_)) if self.may(Auth::Cert) && self.is_tls() => {}
            State::Proving(Proof::Unasked(_)) => {
                return Err(
                    "the service asks for no credential, so it proves nothing either; if it \
                     goes by the client certificate, the policy must say `auth: [cert]`",
                );
            }
            _ => return Err("the service ends the authentication before its own proof"),
        }
        self.state = State::AwaitingReady;
        Ok(())
    }

    /// AuthenticationCleartextPassword.
    fn cleartext(&mut self, body: &[u8], io: &mut Buffers) -> Result<(), Wrong> {
        match (self.may(Auth::Password), self.is_tls()) {
            _ if self.may(Auth::PasswordUnencrypted) => {}
            (true, true) => {}
            (true, false) => {
                return Err(
                    "the service asks for a cleartext password without TLS; the policy \
                            would have to say `auth: [password-unencrypted]`",
                );
            }
            (false, _) => {
                return Err(
                    "the service asks for a cleartext password, and `auth` of the policy \
                            does not list `password`",
                );
            }
        }
        let secret = self.take_secret(body.is_empty())?;
        message::password(&mut io.to_upstream, secret.expose());
        Ok(())
    }

    /// AuthenticationMD5Password.
    fn md5(&mut self, body: &[u8], io: &mut Buffers) -> Result<(), Wrong> {
        if !self.may(Auth::Md5) {
            return Err(
                "the service asks for an MD5 password, and `auth` of the policy does not \
                        list `md5`",
            );
        }
        let salt = <[u8; 4]>::try_from(body);
        let secret = self.take_secret(salt.is_ok())?;
        let mut parameters = self.parameters.iter();
        let user = parameters.find(|(name, _)| name == "user");
        let user = user.map_or("", |(_, user)| user.as_str());
        let hash = md5_hash(user.as_bytes(), secret.expose(), salt.unwrap_or_default());
        message::password(&mut io.to_upstream, hash.as_bytes());
        Ok(())
    }

    /// AuthenticationSASL: the mechanisms that the server offers.
    fn begin_scram(&mut self, offered: &[u8], io: &mut Buffers) -> Result<(), Wrong> {
        let (mechanism, binding) = self.mechanism(offered)?;
        let State::Proving(Proof::Unasked(Some(secret))) = &self.state else {
            return Err(NO_SECRET);
        };
        let scram = ScramSha256::new(secret.expose(), binding);
        message::sasl_initial(&mut io.to_upstream, mechanism, scram.message());
        self.state = State::Proving(Proof::Scram(Box::new(scram)));
        Ok(())
    }

    /// The mechanism to use, and what is said about channel binding (RFC 5802, section 6):
    /// that the gate uses it (`p`), that it would and the server does not offer it (`y`, so
    /// that a server whose offer somebody has cut off notices), or that it can't (`n`).
    fn mechanism(&self, offered: &[u8]) -> Result<(&'static str, ChannelBinding), Wrong> {
        let offers = |mechanism: &str| {
            let mut offered = offered.split(|&byte| byte == 0);
            offered.any(|name| name == mechanism.as_bytes())
        };
        if !self.may(Auth::ScramSha256) && !self.may(Auth::ScramSha256Plus) {
            return Err(
                "the service asks for SCRAM, and `auth` of the policy does not list \
                        `scram-sha-256`",
            );
        }
        match (&self.binding, offers(SCRAM_SHA_256_PLUS)) {
            (Some(Binding::EndPoint(hash)), true) => {
                let binding = ChannelBinding::tls_server_end_point(hash.clone());
                return Ok((SCRAM_SHA_256_PLUS, binding));
            }
            (Some(Binding::Undefined), true) => {
                return Err(
                    "the service offers SCRAM-SHA-256-PLUS, and its certificate's signature \
                     names no hash to bind it to: use a certificate signed with RSA or ECDSA",
                );
            }
            (None, true) => {
                return Err("the service offers SCRAM-SHA-256-PLUS without TLS");
            }
            (_, false) => {}
        }
        if !self.may(Auth::ScramSha256) {
            return Err(
                "the service offers no SCRAM-SHA-256-PLUS, and `auth` of the policy \
                        takes nothing less",
            );
        }
        if !offers(SCRAM_SHA_256) {
            return Err("the service offers no SCRAM-SHA-256");
        }
        let binding = match self.binding {
            Some(Binding::EndPoint(_)) => ChannelBinding::unrequested(),
            Some(Binding::Undefined) | None => ChannelBinding::unsupported(),
        };
        Ok((SCRAM_SHA_256, binding))
    }

    /// The credential, for what is presented as it is or without a proof in return.
    fn take_secret(&mut self, well_formed: bool) -> Result<Secret, Wrong> {
        if !well_formed {
            return Err("the service's request for a password is not PostgreSQL's");
        }
        let given = State::Proving(Proof::Given);
        match std::mem::replace(&mut self.state, given) {
            State::Proving(Proof::Unasked(Some(secret))) => Ok(secret),
            _ => Err(NO_SECRET),
        }
    }

    fn may(&self, method: Auth) -> bool {
        self.auth.contains(&method)
    }

    fn is_tls(&self) -> bool {
        self.binding.is_some()
    }
}

const NO_SECRET: Wrong = "the service asks for a password, and the policy gives none";

/// AuthenticationSASLContinue.
fn go_on(scram: &mut ScramSha256, body: &[u8], io: &mut Buffers) -> Result<(), Wrong> {
    if rounds(body) > ROUNDS_LIMIT {
        return Err("the service asks for too many rounds of SCRAM");
    }
    if scram.update(body).is_err() {
        return Err("the service's SCRAM message is wrong");
    }
    message::sasl_response(&mut io.to_upstream, scram.message());
    Ok(())
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
