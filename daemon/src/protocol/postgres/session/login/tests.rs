//! A server that the test plays, with SCRAM's own sums.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

mod methods;

use super::*;
use crate::policy::Auth;
use crate::protocol::postgres::session::tests::settings;
use crate::types::Secret;
use postgres_protocol::authentication::sasl::{SCRAM_SHA_256, SCRAM_SHA_256_PLUS};

const PASSWORD: &str = "pencil";

/// Before anything is said but the request for TLS.
fn started(tls: bool) -> (Login, Buffers) {
    started_with(tls, &[Auth::ScramSha256])
}

fn started_with(tls: bool, auth: &[Auth]) -> (Login, Buffers) {
    let mut io = Buffers::default();
    let parameters = vec![("user".to_owned(), "agent_ro".to_owned())];
    let mut settings = settings();
    settings.tls = tls;
    settings.auth = auth.to_vec();
    let secret = vec![8, 7, 6, 5];
    let login = Login::start(parameters, &settings, secret, &mut io);
    (login, io)
}

/// Introduced to a server that answers nothing yet.
fn login() -> (Login, Buffers) {
    let (mut login, mut io) = started(false);
    let next = login.advance(&mut io);
    assert!(matches!(next, Next::Step(Step::NeedCredential)));
    assert_eq!(&io.to_upstream[..], b"", "before the credential");
    login.credential(Secret::new(PASSWORD.into()).into(), &mut io);
    (login, io)
}

fn framed(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    message::framed(&mut out, tag, |out| out.extend_from_slice(body));
    out.to_vec()
}

fn authentication(kind: i32, body: &[u8]) -> Vec<u8> {
    framed(b'R', &[&kind.to_be_bytes(), body].concat())
}

fn say(login: &mut Login, io: &mut Buffers, bytes: &[u8]) -> Next {
    io.from_upstream.extend_from_slice(bytes);
    login.advance(io)
}

/// The agent's code and what the record says, of a refusal.
fn refused(next: Next) -> (String, CloseReason) {
    match next {
        Next::Refuse(Some(error), reason) => (error.code.to_owned(), reason),
        Next::Step(step) => panic!("not refused: {step:?}"),
        Next::Done(..) => panic!("let in"),
        Next::Refuse(None, reason) => panic!("the server told it: {reason:?}"),
    }
}

fn is_broken(next: Next, what: &str) {
    let (code, reason) = refused(next);
    assert_eq!(code, "08P01");
    assert!(
        matches!(reason, CloseReason::UpstreamProtocol(said) if said.contains(what)),
        "{reason:?}"
    );
}

/// A server that knows what `CREATE ROLE ... PASSWORD 'pencil'` leaves in pg_authid.
struct Server {
    salt: String,
    server_key: Vec<u8>,
    /// client-first-bare, server-first, client-final without proof: what is signed.
    transcript: String,
}

impl Server {
    fn new() -> Self {
        let verifier = postgres_protocol::password::scram_sha_256(PASSWORD.as_bytes());
        let parts: Vec<&str> = verifier.split(['$', ':']).collect();
        let server_key = STANDARD.decode(parts[4]).expect("base64");
        Self {
            salt: parts[2].to_owned(),
            server_key,
            transcript: String::new(),
        }
    }

    /// Reads SASLInitialResponse, answers AuthenticationSASLContinue.
    fn first(&mut self, client: &[u8], rounds: &str) -> Vec<u8> {
        self.first_bound(client, rounds, (SCRAM_SHA_256, "n,,"))
    }

    /// The same, for this mechanism and this header about channel binding.
    fn first_bound(&mut self, client: &[u8], rounds: &str, how: (&str, &str)) -> Vec<u8> {
        let mut fields = Fields::of_frame(client);
        assert_eq!(fields.text(), Ok(how.0));
        fields.int32().expect("length");
        let first = std::str::from_utf8(fields.rest()).expect("text");
        let bare = first.strip_prefix(how.1).expect(how.1);
        let (_, nonce) = bare.split_once("r=").expect("nonce");
        let answer = format!("r={nonce}more,s={},i={rounds}", self.salt);
        self.transcript = format!("{bare},{answer}");
        authentication(11, answer.as_bytes())
    }

    /// Reads SASLResponse, answers AuthenticationSASLFinal.
    fn last(&mut self, client: &[u8]) -> Vec<u8> {
        let text = std::str::from_utf8(Fields::of_frame(client).rest()).expect("text");
        let (without_proof, _) = text.split_once(",p=").expect("proof");
        self.transcript = format!("{},{without_proof}", self.transcript);
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.server_key).expect("key");
        mac.update(self.transcript.as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        authentication(12, format!("v={signature}").as_bytes())
    }
}

/// Up to the point where the server has offered SCRAM and the gate has begun it.
fn credential_given() -> (Login, Buffers, Server) {
    let (mut login, mut io) = login();
    io.to_upstream.clear();
    let next = say(
        &mut login,
        &mut io,
        &authentication(10, b"SCRAM-SHA-256\0\0"),
    );
    assert!(matches!(next, Next::Step(Step::Idle)));
    (login, io, Server::new())
}

/// Up to the server's proof.
fn proven() -> (Login, Buffers) {
    let (mut login, mut io, mut server) = credential_given();
    let first = server.first(&io.to_upstream.split(), "4096");
    assert!(matches!(
        say(&mut login, &mut io, &first),
        Next::Step(Step::Idle)
    ));
    let last = server.last(&io.to_upstream.split());
    assert!(matches!(
        say(&mut login, &mut io, &last),
        Next::Step(Step::Idle)
    ));
    (login, io)
}

fn key_data(process: i32) -> Vec<u8> {
    framed(b'K', &[&process.to_be_bytes()[..], &[9, 9, 9, 9]].concat())
}

#[test]
fn a_server_that_proves_itself_lets_the_gate_in() {
    let (mut login, mut io) = proven();
    assert_eq!(&io.to_agent[..], b"", "the agent hears nothing before");
    let status = framed(b'S', b"server_version\0fifteen\0");
    let notice = framed(b'N', b"SNOTICE\0Midentifier will be truncated\0\0");
    let answers = [
        framed(b'N', b"SNOTICE\0Mpsst\0\0"),
        authentication(0, b""),
        notice.clone(),
        status.clone(),
        key_data(7),
        framed(b'Z', b"I"),
    ];
    let Next::Done(keys, statuses) = say(&mut login, &mut io, &answers.concat()) else {
        panic!("not done")
    };
    assert_eq!(&statuses[..], [notice.clone(), status.clone()].concat());
    assert_eq!(keys.upstream.process, 7);
    assert_eq!(
        (keys.agent.process, &keys.agent.secret[..]),
        (7, &[8, 7, 6, 5][..]),
        "the process is the server's, the secret is not"
    );
    let key = framed(b'K', &[0, 0, 0, 7, 8, 7, 6, 5]);
    let end = framed(b'Z', b"I");
    let seen = [authentication(0, b""), notice, status, key, end].concat();
    assert_eq!(
        &io.to_agent[..],
        &seen[..],
        "no notice from before, and the gate's own key"
    );
}

#[test]
fn the_login_is_the_same_however_it_is_cut() {
    let answers = [
        authentication(0, b""),
        framed(b'S', b"client_encoding\0UTF8\0"),
        key_data(7),
        framed(b'Z', b"I"),
    ]
    .concat();
    for cut in 0..answers.len() {
        let (mut login, mut io) = proven();
        let (head, tail) = answers.split_at(cut);
        assert!(
            matches!(say(&mut login, &mut io, head), Next::Step(Step::Idle)),
            "{cut}"
        );
        assert_eq!(&io.to_agent[..], b"", "{cut}");
        assert!(
            matches!(say(&mut login, &mut io, tail), Next::Done(..)),
            "{cut}"
        );
    }
}

#[test]
fn a_server_that_does_not_know_the_credential_is_refused() {
    let (mut login, mut io, mut server) = credential_given();
    server.server_key[0] ^= 1;
    let first = server.first(&io.to_upstream.split(), "4096");
    say(&mut login, &mut io, &first);
    let last = server.last(&io.to_upstream.split());
    is_broken(say(&mut login, &mut io, &last), "could not prove");
    assert_eq!(&io.to_agent[..], b"");
}

#[test]
fn a_server_that_skips_its_proof_is_refused() {
    let ok = authentication(0, b"");
    let (mut asked, mut io) = login();
    is_broken(say(&mut asked, &mut io, &ok), "proves nothing");
    let (mut given, mut io, _) = credential_given();
    is_broken(say(&mut given, &mut io, &ok), "before its own proof");
    let (mut half, mut io, mut server) = credential_given();
    let first = server.first(&io.to_upstream.split(), "4096");
    say(&mut half, &mut io, &first);
    is_broken(say(&mut half, &mut io, &ok), "before its own proof");
}

#[test]
fn nothing_of_the_session_counts_before_the_proof() {
    let early = [
        framed(b'S', b"a\0b\0"),
        key_data(1),
        framed(b'Z', b"I"),
        framed(b'D', b"\0\0"),
    ];
    for message in early {
        let (mut asked, mut io) = login();
        is_broken(say(&mut asked, &mut io, &message), "out of turn");
        let (mut login, mut io, _) = credential_given();
        is_broken(say(&mut login, &mut io, &message), "out of turn");
        assert_eq!(&io.to_agent[..], b"");
    }
}

#[test]
fn the_password_is_given_to_scram_only() {
    for (kind, body) in [
        (3, &b""[..]),
        (5, b"salt"),
        (7, b""),
        (9, b""),
        (10, b"SCRAM-SHA-1\0\0"),
    ] {
        let (mut login, mut io) = login();
        io.to_upstream.clear();
        refused(say(&mut login, &mut io, &authentication(kind, body)));
        assert_eq!(&io.to_upstream[..], b"", "{kind}");
    }
    // Nor after SCRAM has begun.
    for kind in [3, 5] {
        let (mut login, mut io, _) = credential_given();
        io.to_upstream.clear();
        is_broken(
            say(&mut login, &mut io, &authentication(kind, b"salt")),
            "out of turn",
        );
        assert_eq!(&io.to_upstream[..], b"");
    }
}

#[test]
fn rounds_without_end_are_not_computed() {
    for rounds in ["1000001", "4294967295", "99999999999999999999"] {
        let (mut login, mut io, mut server) = credential_given();
        let first = server.first(&io.to_upstream.split(), rounds);
        is_broken(say(&mut login, &mut io, &first), "too many rounds");
    }
}

#[test]
fn a_nonce_that_is_not_ours_is_refused() {
    let (mut login, mut io, server) = credential_given();
    io.to_upstream.clear();
    let first = format!("r=other,s={},i=4096", server.salt);
    is_broken(
        say(&mut login, &mut io, &authentication(11, first.as_bytes())),
        "SCRAM message",
    );
    assert_eq!(&io.to_upstream[..], b"");
}

#[test]
fn tls_is_asked_for_and_nothing_is_said_without_it() {
    let (mut login, mut io) = started(true);
    assert_eq!(io.to_upstream.split(), &message::SSL_REQUEST[..]);
    assert!(matches!(login.advance(&mut io), Next::Step(Step::Idle)));
    assert!(matches!(
        say(&mut login, &mut io, b"S"),
        Next::Step(Step::StartTls)
    ));
    assert!(matches!(login.advance(&mut io), Next::Step(Step::Idle)));
    assert_eq!(&io.to_upstream[..], b"", "before the handshake is done");
    login.secured(Binding::Undefined);
    let next = login.advance(&mut io);
    assert!(matches!(next, Next::Step(Step::NeedCredential)));
    assert!(matches!(login.advance(&mut io), Next::Step(Step::Idle)));
    assert_eq!(&io.to_upstream[..], b"", "before the credential has come");
    login.credential(Secret::new(PASSWORD.into()).into(), &mut io);
    assert!(
        io.to_upstream
            .windows(8)
            .any(|window| window == b"agent_ro")
    );
}

#[test]
fn what_else_answers_the_request_for_tls_is_refused() {
    // Bytes behind the S came before the handshake: anybody may have put them there.
    let error = framed(b'E', b"SFATAL\0C53300\0Mtoo many\0\0");
    for answer in [&b"N"[..], b"SR", b"G", b"\0", &error] {
        let (mut login, mut io) = started(true);
        io.to_upstream.clear();
        let (code, _) = refused(say(&mut login, &mut io, answer));
        assert_eq!(code, "08P01", "{answer:?}");
        assert_eq!(&io.to_upstream[..], b"");
    }
}

#[test]
fn the_servers_words_go_to_the_record_and_its_code_to_nobody() {
    let error = |code: &str| {
        framed(
            b'E',
            format!("SFATAL\0VFATAL\0C{code}\0Mpassword of agent_ro is wrong\0\0").as_bytes(),
        )
    };
    for (theirs, ours) in [
        ("28P01", "08004"),
        ("28000", "08004"),
        ("XX000", "08004"),
        ("3D000", "08004"),
        ("53300", "53300"),
        ("57P03", "57P03"),
    ] {
        let (mut login, mut io) = login();
        let Next::Refuse(Some(told), reason) = say(&mut login, &mut io, &error(theirs)) else {
            panic!("not refused")
        };
        assert_eq!(told.code, ours);
        let words = format!("{} {} {}", told.message, told.detail, told.hint);
        assert!(!words.contains("agent_ro"), "{words}");
        let recorded = format!("{theirs} password of agent_ro is wrong");
        assert_eq!(reason, CloseReason::UpstreamLogin(recorded));
    }
}

#[test]
fn what_the_server_says_of_the_agents_own_start_up_is_passed_on() {
    for (code, passed) in [
        ("3D000", true),
        ("22023", true),
        ("42704", true),
        ("28000", false),
    ] {
        let (mut login, mut io) = proven();
        let error = format!("SFATAL\0VFATAL\0C{code}\0Mdatabase \"x\" does not exist\0\0");
        let error = framed(b'E', error.as_bytes());
        let next = say(
            &mut login,
            &mut io,
            &[authentication(0, b""), error.clone()].concat(),
        );
        let Next::Refuse(told, _) = next else {
            panic!("not refused")
        };
        assert_eq!(told.is_none(), passed, "{code}");
        let seen = if passed { &error[..] } else { b"" };
        assert_eq!(&io.to_agent[..], seen, "{code}");
    }
}

#[test]
fn a_login_is_bounded() {
    let (mut logging_in, mut io) = login();
    let endless = [&[b'R'][..], &40_000_i32.to_be_bytes()].concat();
    is_broken(say(&mut logging_in, &mut io, &endless), "not PostgreSQL's");
    let (mut login, mut io) = proven();
    io.from_upstream.extend_from_slice(&authentication(0, b""));
    let status = framed(b'S', &[b'x'; 30_000]);
    io.from_upstream.extend_from_slice(&status.repeat(3));
    is_broken(login.advance(&mut io), "too many settings");
}

#[test]
fn a_server_without_a_cancel_key_is_refused() {
    let (mut login, mut io) = proven();
    let answers = [authentication(0, b""), framed(b'Z', b"I")].concat();
    is_broken(say(&mut login, &mut io, &answers), "no cancel key");
    assert_eq!(&io.to_agent[..], b"");
}

#[test]
fn a_credential_with_a_user_logs_in_as_that_user() {
    let (mut login, mut io) = started(false);
    login.advance(&mut io);
    let credential = Credential {
        user: Some("v-token-ro-1".into()),
        secret: Secret::new(PASSWORD.into()),
    };
    login.credential(credential, &mut io);
    let said = String::from_utf8_lossy(&io.to_upstream).into_owned();
    assert!(said.contains("user\0v-token-ro-1\0"), "{said}");
    assert!(
        !said.contains("agent_ro") && !said.contains(PASSWORD),
        "{said}"
    );
}
