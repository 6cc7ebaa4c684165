//! A relay whose policy, agent and server the tests play, and the messages of both sides.

use std::sync::Arc;

use bytes::BytesMut;

use super::super::relay::Relay;
use super::super::*;
use crate::policy::{Auth, Policy, Request};
use crate::protocol::postgres::codec::message;
use crate::protocol::{Outcome, Question, Verdict};
use crate::types::{ConnectionId, Principal, ServiceName};

/// The last two are those of the decoys.
pub(super) const SEEDS: [u64; 6] = [2, 3, 4, 5, 7, 8];

/// A policy of these rules on one service.
pub(super) fn policy(rules: &str) -> Policy {
    let text = format!(
        "version: 1\nroles: {{analyst: {{}}}}\nservices:\n  shop: {{proto: postgres, \
         at: ['127.0.0.1:5432'], user: u, credential: 'file:/x'}}\nrules:\n{rules}"
    );
    let (policy, _) = Policy::from_texts([("p.yaml", &*text)], 1).expect("policy");
    policy
}

pub(super) const READS: &str = "
  - {id: read, role: analyst, allow: [sql.select], on: ['shop/public.orders']}
";

pub(in super::super) fn settings() -> Settings {
    Settings {
        user: "gate".into(),
        users: vec!["other".into()],
        databases: Vec::new(),
        search_path: Some(vec!["public".into()]),
        tls: false,
        auth: vec![Auth::ScramSha256],
        message_limit: 10_000,
    }
}

/// A relay with the policy above and a server that the test plays.
pub(super) struct Bench {
    pub(super) relay: Relay,
    pub(super) io: Buffers,
    pub(super) policy: Policy,
    pub(super) asked: Vec<Question>,
    pub(super) finished: Vec<Outcome>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(READS)
    }

    pub(super) fn with(rules: &str) -> Self {
        // The texts here are short; a thread for each would take its time.
        crate::protocol::postgres::analyse::this_thread_is_roomy();
        let cache = Arc::new(Cache::new(100, 100_000));
        let statuses = [
            status("client_encoding", "UTF8"),
            status("server_encoding", "UTF8"),
            status("standard_conforming_strings", "on"),
        ];
        let statuses = statuses.concat();
        let relay = Relay::open(&settings(), cache, [7, 8], ConnectionId::next(), &statuses);
        let Ok(relay) = relay else {
            panic!("a good status is a fault")
        };
        let policy = policy(rules);
        let (asked, finished) = (Vec::new(), Vec::new());
        Self {
            relay,
            io: Buffers::default(),
            policy,
            asked,
            finished,
        }
    }

    /// The statement that the last question was about, with what it stood for.
    pub(super) fn last_effects(&self) -> String {
        let effects = &self.asked.last().expect("asked").operation.effects;
        let words: Vec<_> = effects.iter().map(ToString::to_string).collect();
        words.join("; ")
    }

    /// Everything that is run until it faults.
    pub(super) fn faults(&mut self) -> bool {
        matches!(
            self.run(),
            Err(CloseReason::AgentProtocol(_) | CloseReason::UpstreamProtocol(_))
        )
    }

    /// Runs until idle, answering questions as the policy says.
    pub(super) fn run(&mut self) -> Result<(), CloseReason> {
        loop {
            match self
                .relay
                .advance(&mut self.io)
                .map_err(|fault| fault.reason)?
            {
                Step::Idle => return Ok(()),
                Step::Judge(question) => {
                    let decision = self.policy.decide(&Request {
                        principal: &Principal::named("analyst"),
                        service: &ServiceName::from("shop"),
                        effects: &question.operation.effects,
                    });
                    self.asked.push(question);
                    let verdict = Verdict::Decided(Arc::new(decision));
                    self.relay.verdict(&verdict, &mut self.io);
                }
                Step::Finished(outcome) => self.finished.push(outcome),
                Step::Close(reason) => return Err(reason),
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    pub(super) fn agent(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.io.from_agent.extend_from_slice(bytes);
        self.run().expect("no fault");
        self.io.to_upstream.split().to_vec()
    }

    pub(super) fn upstream(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.io.from_upstream.extend_from_slice(bytes);
        self.run().expect("no fault");
        self.io.to_agent.split().to_vec()
    }
}

pub(super) fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    message::framed(&mut out, tag, |out| out.extend_from_slice(body));
    out.to_vec()
}

pub(super) fn query(text: &str) -> Vec<u8> {
    frame(b'Q', format!("{text}\0").as_bytes())
}

pub(super) fn parse(name: &str, text: &str) -> Vec<u8> {
    frame(b'P', format!("{name}\0{text}\0\0\0").as_bytes())
}

pub(super) fn bind(portal: &str, statement: &str) -> Vec<u8> {
    frame(
        b'B',
        format!("{portal}\0{statement}\0\0\0\0\0\0\0").as_bytes(),
    )
}

pub(super) fn execute(portal: &str) -> Vec<u8> {
    frame(b'E', format!("{portal}\0\0\0\0\0").as_bytes())
}

pub(super) fn sync() -> Vec<u8> {
    frame(b'S', b"")
}

pub(super) fn status(name: &str, value: &str) -> Vec<u8> {
    frame(b'S', format!("{name}\0{value}\0").as_bytes())
}

pub(super) fn ready(status: u8) -> Vec<u8> {
    frame(b'Z', &[status])
}

pub(super) fn server_error(code: &str, text: &str) -> Vec<u8> {
    frame(
        b'E',
        format!("SERROR\0VERROR\0C{code}\0M{text}\0\0").as_bytes(),
    )
}

/// The error of the decoy with the bench's seed.
pub(super) fn decoy_error() -> Vec<u8> {
    server_error(
        "42601",
        "syntax error at or near \"portcullis_denied_0000000000000007\"",
    )
}

pub(super) fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

pub(super) const GOOD: &str = "SELECT * FROM orders";
pub(super) const BAD: &str = "DELETE FROM orders";

/// A simple query that the server answers with this tag.
pub(super) fn run(bench: &mut Bench, text: &str, tag: &str, status: u8) {
    assert_eq!(bench.agent(&query(text)), query(text), "{text}");
    let complete = frame(b'C', format!("{tag}\0").as_bytes());
    bench.upstream(&[complete, ready(status)].concat());
}
