//! Which ways to log in a server gets, and what it is told about channel binding.

use postgres_protocol::authentication::md5_hash;

use super::*;

const OFFERS_BOTH: &[u8] = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
const OFFERS_PLAIN: &[u8] = b"SCRAM-SHA-256\0\0";
const OFFERS_PLUS: &[u8] = b"SCRAM-SHA-256-PLUS\0\0";

fn end_point() -> Option<Binding> {
    Some(Binding::EndPoint(b"a hash".to_vec()))
}

/// Introduced, over TLS with this binding or without TLS.
fn introduced(binding: Option<Binding>, auth: &[Auth]) -> (Login, Buffers) {
    let (mut login, mut io) = started_with(binding.is_some(), auth);
    if let Some(binding) = binding {
        say(&mut login, &mut io, b"S");
        login.secured(binding);
    }
    if matches!(login.advance(&mut io), Next::Step(Step::NeedCredential)) {
        login.credential(Secret::new(PASSWORD.into()).into(), &mut io);
    }
    io.to_upstream.clear();
    (login, io)
}

/// What the server is told when it asks for this, or what the record says.
fn told(
    binding: Option<Binding>,
    auth: &[Auth],
    kind: i32,
    body: &[u8],
) -> Result<Vec<u8>, String> {
    let (mut login, mut io) = introduced(binding, auth);
    match say(&mut login, &mut io, &authentication(kind, body)) {
        Next::Step(Step::Idle) => Ok(io.to_upstream.to_vec()),
        next => {
            assert_eq!(&io.to_upstream[..], b"", "something was said");
            Err(format!("{:?}", refused(next).1))
        }
    }
}

/// The mechanism and the header about channel binding that an offer is answered with.
fn answer(binding: Option<Binding>, auth: &[Auth], offered: &[u8]) -> Result<String, String> {
    let said = told(binding, auth, 10, offered)?;
    let mut fields = Fields::of_frame(&said);
    let mechanism = fields.text().expect("mechanism").to_owned();
    fields.int32().expect("length");
    let first = std::str::from_utf8(fields.rest()).expect("text");
    let (header, _) = first.split_once("n=,").expect("a first message");
    Ok(format!("{mechanism} {header}"))
}

#[test]
fn scram_is_bound_whenever_it_can_be() {
    let scram = &[Auth::ScramSha256];
    let bound = "SCRAM-SHA-256-PLUS p=tls-server-end-point,,";
    for offered in [OFFERS_BOTH, OFFERS_PLUS] {
        let over_tls = answer(end_point(), scram, offered);
        assert_eq!(over_tls.as_deref(), Ok(bound));
        let undefined = answer(Some(Binding::Undefined), scram, offered);
        assert!(undefined.expect_err("said").contains("names no hash"));
        let plain = answer(None, scram, offered);
        assert!(plain.expect_err("said").contains("without TLS"));
    }
    // `y`: we would have; a server whose offer was cut off refuses this.
    let cut = answer(end_point(), scram, OFFERS_PLAIN);
    assert_eq!(cut.as_deref(), Ok("SCRAM-SHA-256 y,,"));
    let undefined = answer(Some(Binding::Undefined), scram, OFFERS_PLAIN);
    assert_eq!(undefined.as_deref(), Ok("SCRAM-SHA-256 n,,"));
    let plain = answer(None, scram, OFFERS_PLAIN);
    assert_eq!(plain.as_deref(), Ok("SCRAM-SHA-256 n,,"));
}

#[test]
fn a_policy_that_asks_for_the_binding_takes_nothing_less() {
    let only = &[Auth::ScramSha256Plus];
    assert!(answer(end_point(), only, OFFERS_BOTH).is_ok());
    for binding in [end_point(), Some(Binding::Undefined), None] {
        let said = answer(binding, only, OFFERS_PLAIN).expect_err("taken");
        assert!(said.contains("nothing less"), "{said}");
    }
    let said = answer(end_point(), &[Auth::Md5], OFFERS_BOTH).expect_err("taken");
    assert!(said.contains("does not list `scram-sha-256`"), "{said}");
}

/// Both sides' sums, with the binding in them.
#[test]
fn a_bound_login_is_proved_by_both_sides() {
    let (mut login, mut io) = introduced(end_point(), &[Auth::ScramSha256]);
    say(&mut login, &mut io, &authentication(10, OFFERS_BOTH));
    let mut server = Server::new();
    let how = (SCRAM_SHA_256_PLUS, "p=tls-server-end-point,,");
    let first = server.first_bound(&io.to_upstream.split(), "4096", how);
    say(&mut login, &mut io, &first);
    let client = io.to_upstream.split();
    let text = String::from_utf8_lossy(&client).into_owned();
    let channel = STANDARD.encode(b"p=tls-server-end-point,,a hash");
    assert!(text.contains(&format!("c={channel},")), "{text}");
    let last = server.last(&client);
    say(&mut login, &mut io, &last);
    let next = say(&mut login, &mut io, &authentication(0, b""));
    assert!(matches!(next, Next::Step(Step::Idle)));
    assert!(matches!(login.state, State::AwaitingReady));
}

/// Somebody in the middle who cuts the offer can't make the server's signature fit either.
#[test]
fn what_was_said_about_the_binding_is_signed() {
    let (mut login, mut io) = introduced(end_point(), &[Auth::ScramSha256]);
    say(&mut login, &mut io, &authentication(10, OFFERS_PLAIN));
    let mut server = Server::new();
    let how = (SCRAM_SHA_256, "y,,");
    let first = server.first_bound(&io.to_upstream.split(), "4096", how);
    say(&mut login, &mut io, &first);
    let client = io.to_upstream.split();
    let text = std::str::from_utf8(&client[5..]).expect("text");
    // What the middle would have to tell the server, which offered more.
    let [ours, forged] = [b"y,,", b"n,,"].map(|header| format!("c={}", STANDARD.encode(header)));
    assert!(text.starts_with(&ours), "{text}");
    let last = server.last(&framed(b'p', text.replace(&ours, &forged).as_bytes()));
    is_broken(say(&mut login, &mut io, &last), "could not prove");
}

#[test]
fn the_password_itself_is_told_where_the_policy_says_so() {
    let password = framed(b'p', b"pencil\0");
    let over_tls = [Auth::Password];
    assert_eq!(told(end_point(), &over_tls, 3, b""), Ok(password.clone()));
    let said = told(None, &over_tls, 3, b"").expect_err("told");
    assert!(said.contains("without TLS"), "{said}");
    let anyway = [Auth::ScramSha256, Auth::PasswordUnencrypted];
    for binding in [end_point(), Some(Binding::Undefined), None] {
        assert_eq!(told(binding, &anyway, 3, b""), Ok(password.clone()));
    }
    for auth in [Auth::ScramSha256, Auth::ScramSha256Plus, Auth::Md5] {
        let said = told(end_point(), &[auth], 3, b"").expect_err("told");
        assert!(said.contains("does not list `password`"), "{said}");
    }
    assert!(told(None, &anyway, 3, b"x").is_err(), "a broken request");
}

#[test]
fn the_md5_hash_is_told_where_the_policy_says_so() {
    let salt = [1, 2, 3, 4];
    let of = |user: &str| {
        let hash = md5_hash(user.as_bytes(), PASSWORD.as_bytes(), salt);
        framed(b'p', format!("{hash}\0").as_bytes())
    };
    assert_eq!(told(None, &[Auth::Md5], 5, &salt), Ok(of("agent_ro")));
    let said = told(end_point(), &[Auth::ScramSha256, Auth::Password], 5, &salt);
    let said = said.expect_err("told");
    assert!(said.contains("does not list `md5`"), "{said}");
    for salt in [&b""[..], b"sal", b"salts"] {
        assert!(told(None, &[Auth::Md5], 5, salt).is_err(), "{salt:?}");
    }
    // The user that a credential brought along is the one that counts.
    let (mut login, mut io) = started_with(false, &[Auth::Md5]);
    login.advance(&mut io);
    let secret = Secret::new(PASSWORD.into());
    let user = Some("v-1".to_owned());
    login.credential(Credential { user, secret }, &mut io);
    io.to_upstream.clear();
    say(&mut login, &mut io, &authentication(5, &salt));
    assert_eq!(&io.to_upstream[..], of("v-1"));
}

#[test]
fn nobody_is_told_twice() {
    let auth = [Auth::Md5, Auth::PasswordUnencrypted];
    for (kind, body) in [(3, &b""[..]), (5, b"salt")] {
        for (kind_again, body_again) in [
            (3, &b""[..]),
            (5, b"salt"),
            (10, OFFERS_PLAIN),
            (11, b"r=x"),
            (12, b"v="),
        ] {
            let (mut login, mut io) = introduced(None, &auth);
            say(&mut login, &mut io, &authentication(kind, body));
            io.to_upstream.clear();
            let again = authentication(kind_again, body_again);
            refused(say(&mut login, &mut io, &again));
            assert_eq!(&io.to_upstream[..], b"", "{kind} {kind_again}");
        }
        let (mut login, mut io) = introduced(None, &auth);
        say(&mut login, &mut io, &authentication(kind, body));
        let next = say(&mut login, &mut io, &authentication(0, b""));
        assert!(matches!(next, Next::Step(Step::Idle)));
        refused(say(&mut login, &mut io, &authentication(0, b"")));
    }
}

#[test]
fn a_server_that_asks_for_nothing_is_let_through_for_a_certificate_only() {
    let asks_nothing = |binding: Option<Binding>, auth: &[Auth]| told(binding, auth, 0, b"");
    assert_eq!(asks_nothing(end_point(), &[Auth::Cert]), Ok(vec![]));
    let both = [Auth::ScramSha256, Auth::Cert];
    assert_eq!(asks_nothing(end_point(), &both), Ok(vec![]));
    for auth in [
        Auth::ScramSha256,
        Auth::ScramSha256Plus,
        Auth::Md5,
        Auth::Password,
        Auth::PasswordUnencrypted,
    ] {
        let said = asks_nothing(end_point(), &[auth]).expect_err("let through");
        assert!(said.contains("proves nothing"), "{said}");
    }
    // The policy has no such service: no TLS, no certificate.
    assert!(asks_nothing(None, &both).is_err());
}

#[test]
fn a_certificate_alone_takes_no_credential() {
    let (mut login, mut io) = started_with(true, &[Auth::Cert]);
    say(&mut login, &mut io, b"S");
    io.to_upstream.clear();
    login.secured(Binding::EndPoint(vec![1]));
    assert!(matches!(login.advance(&mut io), Next::Step(Step::Idle)));
    assert!(io.to_upstream.windows(8).any(|part| part == b"agent_ro"));
    // And there is none to give to a server that asks.
    for (kind, body) in [(3, &b""[..]), (5, b"salt"), (10, OFFERS_BOTH)] {
        assert!(told(end_point(), &[Auth::Cert], kind, body).is_err());
    }
}

#[test]
fn the_operator_reads_why_and_no_secret() {
    for kind in [0, 2, 3, 5, 7, 9, 10, 11, 12, 99, -1] {
        let said = told(end_point(), &[Auth::ScramSha256], kind, b"body\0\0").expect_err("told");
        assert!(!said.contains(PASSWORD) && !said.contains("body"), "{said}");
    }
}
