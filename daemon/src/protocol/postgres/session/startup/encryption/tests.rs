use super::super::Startup;
use super::super::tests::{GSSENC, SSL, startup};
use super::*;
use crate::protocol::postgres::session::tests::settings;

/// A start-up that hears one piece after the other.
#[derive(Default)]
struct Dialogue {
    state: Startup,
    io: Buffers,
}

impl Dialogue {
    fn hears(&mut self, bytes: &[u8]) -> Next {
        self.io.from_agent.extend_from_slice(bytes);
        self.state.advance(&settings(), &mut self.io)
    }

    fn asks_for_tls(&mut self) {
        let next = self.hears(&SSL);
        assert!(matches!(next, Next::Step(Step::AgentTls(Hello::Asked))));
    }

    /// What has been said to the agent since the last time.
    fn said(&mut self) -> Vec<u8> {
        self.io.to_agent.split().to_vec()
    }
}

fn code(next: &Next) -> &'static str {
    match next {
        Next::Refuse(error, CloseReason::AgentProtocol(_)) => error.code,
        _ => "",
    }
}

fn is_idle(next: &Next) -> bool {
    matches!(next, Next::Step(Step::Idle))
}

#[test]
fn tls_is_there_for_who_asks_and_the_start_goes_on_inside_it() {
    for before in [&b""[..], &GSSENC] {
        let mut agent = Dialogue::default();
        agent.hears(before);
        agent.asks_for_tls();
        assert_eq!(agent.said().last(), Some(&b'S'));
        assert!(is_idle(&agent.hears(b"")), "the handshake is under way");
        agent.state.secured();
        assert!(is_idle(&agent.hears(b"")));
        let next = agent.hears(&startup(&[("user", "agent")]));
        assert!(matches!(next, Next::Accepted(_)));
        assert_eq!(agent.said(), b"");
    }
}

#[test]
fn clear_text_behind_the_request_is_not_read_as_if_it_came_by_tls() {
    let start = startup(&[("user", "agent")]);
    for behind in [&start[..], &start[..1], b"\x16\x03\x01", &SSL] {
        let mut agent = Dialogue::default();
        let next = agent.hears(&[&SSL, behind].concat());
        assert_eq!(code(&next), "08P01");
        assert_eq!(agent.said(), b"", "and no S, which would begin a handshake");
    }
}

#[test]
fn nothing_is_taken_as_long_as_the_handshake_lasts() {
    let mut agent = Dialogue::default();
    agent.asks_for_tls();
    let start = startup(&[("user", "agent")]);
    assert!(is_idle(&agent.hears(&start)));
    assert_eq!(agent.io.from_agent.len(), start.len());
}

#[test]
fn each_kind_of_encryption_is_asked_for_once_and_none_inside_the_other() {
    let mut agent = Dialogue::default();
    agent.asks_for_tls();
    agent.state.secured();
    let next = agent.hears(&SSL);
    assert_eq!(code(&next), "0A000");
    let Next::Refuse(error, _) = next else {
        panic!("not refused")
    };
    // As the server of version 15 says it.
    assert!(error.message.contains("frontend protocol 1234.5679"));
    let mut agent = Dialogue::default();
    agent.asks_for_tls();
    agent.state.secured();
    assert_eq!(code(&agent.hears(&GSSENC)), "0A000");
    let mut agent = Dialogue::default();
    assert_eq!(code(&agent.hears(&[GSSENC, GSSENC].concat())), "0A000");
    assert_eq!(agent.said(), b"N");
}

#[test]
fn a_client_hello_comes_first_or_not_at_all() {
    let mut agent = Dialogue::default();
    let next = agent.hears(&[HANDSHAKE]);
    assert!(matches!(next, Next::Step(Step::AgentTls(Hello::Direct))));
    assert_eq!(&agent.io.from_agent[..], [HANDSHAKE], "left for the proxy");
    agent.io.from_agent.clear();
    agent.state.secured();
    // As the server does: nothing more of encryption, and no error either.
    assert!(is_idle(&agent.hears(&[SSL, GSSENC].concat())));
    assert_eq!(agent.said(), b"NN");
    assert_eq!(code(&agent.hears(&SSL)), "0A000");
    let mut agent = Dialogue::default();
    assert!(is_idle(&agent.hears(&GSSENC)));
    let next = agent.hears(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc");
    assert_eq!(code(&next), "08P01");
}
