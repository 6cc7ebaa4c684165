//! A session and its two sides.

use std::sync::{Arc, LazyLock};

use bytes::BytesMut;
use portcullis::policy::{Auth, Decision, Effect, Policy, Request, Verb};
use portcullis::protocol::postgres::analyse::{self, Cache};
use portcullis::protocol::postgres::codec::message;
use portcullis::protocol::postgres::{PostgresSession, Settings};
use portcullis::protocol::{
    Answer, Buffers, CloseReason, LONGEST_ANSWER, Question, Session, Step, Verdict,
};
use portcullis::types::{ConnectionId, Principal, Secret, ServiceName};

use crate::server::Server;
use crate::watch::Watch;

/// The longest message of the agent that is held.
const LIMIT: usize = 10_000;
/// What each text must not have in it.
const FORBIDDEN: &str = "forbidden";

const POLICY: &str = "
version: 1
roles: {a: {}}
services:
  shop: {proto: postgres, at: ['127.0.0.1:1'], tls: disable, user: u, credential: 'file:/x'}
rules:
  - {id: read, role: a, allow: [sql.select], on: [shop]}
";

/// An allow and a deny, and the analyses: made once, as a run makes thousands of sessions.
static SHARED: LazyLock<(Arc<Decision>, Arc<Decision>, Arc<Cache>)> = LazyLock::new(|| {
    let (policy, _) = Policy::from_texts([("p.yaml", POLICY)], 1).expect("policy");
    let decide = |verb| {
        Arc::new(policy.decide(&Request {
            principal: &Principal::named("a"),
            service: &ServiceName::from("shop"),
            effects: &[Effect::on_path(verb, "public.orders")],
        }))
    };
    let cache = Arc::new(Cache::new(10_000, 4_000_000));
    (decide(Verb::SqlSelect), decide(Verb::SqlDelete), cache)
});

/// What can be seen of a session from outside.
pub(crate) type Seen = (Vec<u8>, Option<CloseReason>);

pub(crate) struct Drive {
    session: PostgresSession,
    pub(crate) io: Buffers,
    pub(crate) closed: Option<CloseReason>,
    /// Whether the upstream can be dialled; else it is all over where it is asked for.
    dials: bool,
    /// Whether the record can be written.
    pub(crate) recorded: bool,
    allow: Arc<Decision>,
    deny: Arc<Decision>,
    established: bool,
    /// The agent has asked for TLS, which ends it here.
    pub(crate) tls: bool,
    watch: Watch,
    server: Server,
    /// All that the agent has got.
    told: BytesMut,
}

impl Drive {
    pub(crate) fn new() -> Self {
        analyse::this_thread_is_roomy();
        let settings = Settings {
            user: "gate".into(),
            users: Vec::new(),
            databases: Vec::new(),
            search_path: Some(vec!["public".into()]),
            tls: false,
            auth: vec![Auth::PasswordUnencrypted, Auth::ScramSha256, Auth::Md5],
            message_limit: LIMIT,
        };
        let (allow, deny, cache) = &*SHARED;
        let cache = Arc::clone(cache);
        let seeds = [2, 3, 4, 5, 7, 8];
        Self {
            session: PostgresSession::new(Arc::new(settings), cache, seeds, ConnectionId::next()),
            io: Buffers::default(),
            closed: None,
            dials: true,
            recorded: true,
            allow: Arc::clone(allow),
            deny: Arc::clone(deny),
            established: false,
            tls: false,
            watch: Watch::default(),
            server: Server::default(),
            told: BytesMut::new(),
        }
    }

    /// One that ends where it has understood what the agent wants.
    pub(crate) fn undialled() -> Self {
        let mut drive = Self::new();
        drive.dials = false;
        drive
    }

    /// Up to the gate's own StartupMessage.
    pub(crate) fn introduced() -> Self {
        let mut drive = Self::new();
        let mut packet = BytesMut::new();
        let pairs = [("user", "agent"), ("database", "shop")];
        message::startup(&mut packet, pairs.into_iter());
        drive.agent(&packet);
        assert!(
            drive.io.to_upstream.starts_with(&[0, 0, 0]),
            "not introduced"
        );
        drive.io.to_upstream.clear();
        drive
    }

    pub(crate) fn logged_in() -> Self {
        let mut drive = Self::introduced();
        drive.upstream(&Server::login());
        assert!(drive.established, "not logged in: {:?}", drive.closed);
        drive.io.to_upstream.clear();
        drive.told.clear();
        drive
    }

    pub(crate) fn agent(&mut self, bytes: &[u8]) {
        self.io.from_agent.extend_from_slice(bytes);
        self.run();
    }

    pub(crate) fn upstream(&mut self, bytes: &[u8]) {
        self.io.from_upstream.extend_from_slice(bytes);
        self.run();
    }

    /// The server answers the next message that it has.
    pub(crate) fn serve(&mut self, choice: u8) {
        let answer = self.server.serve(choice);
        self.upstream(&answer);
    }

    pub(crate) fn serve_all(&mut self, choice: u8) {
        while self.closed.is_none() && self.server.has_more() {
            self.serve(choice);
        }
    }

    pub(crate) fn answer(&mut self, answer: Answer) {
        self.session.answer(answer, &mut self.io);
        self.run();
    }

    pub(crate) fn blames_upstream(&self) -> bool {
        matches!(self.closed, Some(CloseReason::UpstreamProtocol(_)))
    }

    pub(crate) fn seen(&self) -> Seen {
        (self.told.to_vec(), self.closed.clone())
    }

    fn run(&mut self) {
        let mut steps = 0;
        while self.closed.is_none() {
            let step = self.session.advance(&mut self.io);
            self.look();
            match step {
                Step::Idle => break,
                Step::Judge(question) => self.judge(&question),
                Step::Dial(_) if !self.dials => self.closed = Some(CloseReason::Refused),
                Step::Dial(_) => self.session.answer(Answer::Dialled, &mut self.io),
                Step::NeedCredential => {
                    let secret = Secret::new("hunter2-the-secret".into());
                    let answer = Answer::Credential(secret.into());
                    self.session.answer(answer, &mut self.io);
                }
                Step::Established(_) => self.established = true,
                Step::Finished(_) => {}
                Step::AgentTls(_) => {
                    self.tls = true;
                    self.closed = Some(CloseReason::Refused);
                }
                Step::StartTls => panic!("TLS without a policy that asks for it"),
                Step::Cancel(_) => self.closed = Some(CloseReason::Finished),
                Step::Close(reason) => self.closed = Some(reason),
            }
            steps += 1;
            assert!(steps < 1_000_000, "it does not come to rest");
        }
        self.look();
        self.check_bounds();
    }

    fn judge(&mut self, question: &Question) {
        let text = &question.operation.text;
        let decision = match text.to_lowercase().contains(FORBIDDEN) {
            true => Arc::clone(&self.deny),
            false => Arc::clone(&self.allow),
        };
        let verdict = match self.recorded {
            true => Verdict::Decided(decision),
            false => Verdict::NotRecorded,
        };
        let may = self.recorded && !text.to_lowercase().contains(FORBIDDEN);
        self.watch.judged(question.stage, text, may);
        self.session.answer(Answer::Verdict(verdict), &mut self.io);
    }

    /// Takes what goes out, and looks at it.
    fn look(&mut self) {
        let told = self.io.to_agent.split();
        let secret: &[u8] = b"hunter2-the-secret";
        assert!(
            !told.windows(secret.len()).any(|part| part == secret),
            "the credential went to the agent"
        );
        self.told.extend_from_slice(&told);
        if self.established {
            let up = self.io.to_upstream.split();
            for (tag, frame) in self.watch.look(&up) {
                self.server.receive(tag, frame);
            }
        }
    }

    fn check_bounds(&self) {
        if self.closed.is_some() || !self.established {
            return;
        }
        let waits = self.session.is_waiting();
        assert!(self.io.from_agent.len() <= LIMIT || waits, "it holds more");
        assert!(self.io.from_upstream.len() <= LONGEST_ANSWER);
    }
}
