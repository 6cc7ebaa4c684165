//! A whole session, both of whose sides the tests play, in any state that it can be in.

use std::sync::LazyLock;

use super::*;
use crate::policy::Auth;
use crate::protocol::{Answer, Binding, Buffers};
use crate::types::Secret;

/// Where a session can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// Nothing is said.
    Start,
    /// The proxy dials.
    Dialling,
    /// TLS is asked for.
    Tls,
    /// The proxy is at the handshake.
    Handshake,
    /// The proxy is at the vault.
    Vault,
    /// The gate has introduced itself.
    Proving,
    /// It has told its password.
    Proved,
    /// It is in, and the session is not ready.
    Settings,
    Idle,
    /// A simple query runs.
    Query,
    /// A row of it is half passed on.
    Row,
    /// Parse, Bind and Execute are sent, and none is answered.
    Batch,
    /// Parse and Bind are answered.
    Executing,
    /// Describe of a statement is the next to be answered.
    Describing,
    /// The server skips to Sync.
    Skipping,
    /// Sync is the next to be answered.
    Synced,
    CopyIn,
    CopyOut,
    /// A statement waits for its verdict.
    Judging,
    /// The agent has said goodbye, and its last query runs.
    Goodbye,
    Closed,
}

pub(super) const ALL: [At; 21] = [
    At::Start,
    At::Dialling,
    At::Tls,
    At::Handshake,
    At::Vault,
    At::Proving,
    At::Proved,
    At::Settings,
    At::Idle,
    At::Query,
    At::Row,
    At::Batch,
    At::Executing,
    At::Describing,
    At::Skipping,
    At::Synced,
    At::CopyIn,
    At::CopyOut,
    At::Judging,
    At::Goodbye,
    At::Closed,
];

const PASSWORD: &str = "hunter2";

const WIDE: &str = "
  - {id: wide, role: analyst, allow: ['sql.*', sql.unknown], on: ['shop/*']}
";

/// Thousands of sessions share it, and the analyses.
static SHARED: LazyLock<(Policy, Arc<Cache>)> =
    LazyLock::new(|| (policy(WIDE), Arc::new(Cache::new(1000, 100_000))));

pub(super) struct Whole {
    session: PostgresSession,
    pub(super) io: Buffers,
    /// Questions are left without an answer.
    judging: bool,
    pub(super) closed: Option<CloseReason>,
}

impl Whole {
    fn new(tls: bool) -> Self {
        crate::protocol::postgres::analyse::this_thread_is_roomy();
        let mut settings = settings();
        settings.tls = tls;
        settings.auth = vec![Auth::PasswordUnencrypted];
        let cache = Arc::clone(&SHARED.1);
        let connection = ConnectionId::next();
        Self {
            session: PostgresSession::new(Arc::new(settings), cache, SEEDS, connection),
            io: Buffers::default(),
            judging: true,
            closed: None,
        }
    }

    /// In this state, with nothing on its way out.
    pub(super) fn at(at: At) -> Self {
        let mut whole = Self::new(matches!(at, At::Tls | At::Handshake));
        whole.go_to(at);
        assert_eq!(whole.closed.is_some(), at == At::Closed, "{at:?}");
        whole.io.to_agent.clear();
        whole.io.to_upstream.clear();
        whole
    }

    fn go_to(&mut self, at: At) {
        if at == At::Start {
            return;
        }
        let mut packet = BytesMut::new();
        let pairs = [("user", "agent"), ("database", "shop")];
        crate::protocol::postgres::codec::message::startup(&mut packet, pairs.into_iter());
        assert!(matches!(self.say(&packet), Step::Dial(_)));
        if at == At::Dialling {
            return;
        }
        self.session.answer(Answer::Dialled, &mut self.io);
        if matches!(at, At::Tls | At::Handshake) {
            self.step();
            if at == At::Handshake {
                assert!(matches!(self.hear(b"S"), Step::StartTls));
            }
            return;
        }
        assert!(matches!(self.step(), Step::NeedCredential));
        if at == At::Vault {
            return;
        }
        let secret = Secret::new(PASSWORD.into());
        self.session
            .answer(Answer::Credential(secret.into()), &mut self.io);
        self.step();
        self.log_in(at);
    }

    fn log_in(&mut self, at: At) {
        if at == At::Proving {
            return;
        }
        self.hear(&frame(b'R', &[0, 0, 0, 3]));
        if at == At::Proved {
            return;
        }
        self.hear(&frame(b'R', &[0; 4]));
        if at == At::Settings {
            return;
        }
        let settings = [
            status("client_encoding", "UTF8"),
            status("server_encoding", "UTF8"),
            status("standard_conforming_strings", "on"),
            frame(b'K', &[0, 0, 0, 7, 1, 2, 3, 4]),
            ready(b'I'),
        ];
        assert!(matches!(
            self.hear(&settings.concat()),
            Step::Established(_)
        ));
        self.work(at);
    }

    fn work(&mut self, at: At) {
        let batch = [parse("", GOOD), bind("", ""), execute("")].concat();
        let bound = [frame(b'1', b""), frame(b'2', b"")].concat();
        let error = server_error("22012", "no");
        match at {
            At::Query => drop(self.say(&query(GOOD))),
            At::Row => {
                self.say(&query(GOOD));
                self.hear(&[&described(1)[..], &[b'D', 0, 0, 1, 0, 0, 1]].concat());
            }
            At::Batch => drop(self.say(&batch)),
            At::Executing => {
                self.say(&batch);
                self.hear(&bound);
            }
            At::Describing => {
                self.say(&[parse("", GOOD), frame(b'D', b"S\0")].concat());
                self.hear(&frame(b'1', b""));
            }
            At::Skipping => {
                self.say(&batch);
                self.hear(&error);
            }
            At::Synced => {
                self.say(&[batch, sync()].concat());
                self.hear(&error);
            }
            At::CopyIn => {
                self.say(&query("COPY orders FROM STDIN"));
                self.hear(&frame(b'G', &[0, 0, 0]));
            }
            At::CopyOut => {
                self.say(&query("COPY orders TO STDOUT"));
                self.hear(&frame(b'H', &[0, 0, 0]));
            }
            At::Judging => {
                self.judging = false;
                assert!(matches!(self.say(&query(GOOD)), Step::Judge(_)));
            }
            At::Goodbye => drop(self.say(&[query(GOOD), frame(b'X', b"")].concat())),
            At::Closed => drop(self.say(&frame(b'?', b""))),
            _ => {}
        }
    }

    pub(super) fn say(&mut self, bytes: &[u8]) -> Step {
        self.io.from_agent.extend_from_slice(bytes);
        self.step()
    }

    pub(super) fn hear(&mut self, bytes: &[u8]) -> Step {
        self.io.from_upstream.extend_from_slice(bytes);
        self.step()
    }

    /// Goes on until it waits for bytes or for the proxy.
    fn step(&mut self) -> Step {
        loop {
            match self.session.advance(&mut self.io) {
                Step::Judge(question) if self.judging => {
                    let decision = SHARED.0.decide(&Request {
                        principal: &Principal::named("analyst"),
                        service: &ServiceName::from("shop"),
                        effects: &question.operation.effects,
                    });
                    let verdict = Verdict::Decided(Arc::new(decision));
                    self.session.answer(Answer::Verdict(verdict), &mut self.io);
                }
                Step::Finished(_) => {}
                Step::Close(reason) => {
                    self.closed = Some(reason.clone());
                    return Step::Close(reason);
                }
                other => return other,
            }
        }
    }

    /// An answer, to whatever was asked.
    pub(super) fn answer(&mut self, answer: Answer) {
        self.session.answer(answer, &mut self.io);
        self.step();
    }

    pub(super) fn expel(&mut self, why: Expulsion) {
        self.session.expel(why, &mut self.io);
        self.step();
    }

    /// Whatever comes of it, these hold.
    pub(super) fn check(&self, why: &str) {
        assert!(!contains(&self.io.to_agent, PASSWORD), "{why}");
        if self.closed.is_some() && self.closed != Some(CloseReason::Finished) {
            assert_eq!(&self.io.to_upstream[..], b"", "{why}: said while it closes");
        }
    }
}

/// One of each kind, none of which fits a session that has not asked.
pub(super) fn answers() -> Vec<Answer> {
    let secret = Secret::new(PASSWORD.into());
    vec![
        Answer::Dialled,
        Answer::Secured(Binding::Undefined),
        Answer::Credential(secret.into()),
        Answer::Verdict(Verdict::NotRecorded),
        Answer::Refused(crate::protocol::Refusal::Unreachable),
        Answer::AgentSecured,
    ]
}

/// RowDescription with so many fields.
pub(super) fn described(fields: u16) -> Vec<u8> {
    let one = [&b"x\0"[..], &[0; 18]].concat();
    let body = [
        fields.to_be_bytes().to_vec(),
        one.repeat(usize::from(fields)),
    ];
    frame(b'T', &body.concat())
}
