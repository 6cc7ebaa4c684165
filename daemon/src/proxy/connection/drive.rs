//! Answers the steps of a protocol session, one after the other.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::cancel::{CancelGuard, Target};
use super::super::linger;
use super::super::listener::Left;
use super::super::pump::{Event as Moved, Pump};
use super::super::stream::Stream;
use super::super::{Busy, Proxy};
use super::admission::Admitted;
use super::agent_tls::{Handshake, shaken};
use super::memo::Memo;
use super::open::{Asked, answered};
use super::outside::{Heard, Outside};
use crate::audit::{Context, Event, Record};
use crate::identity;
use crate::policy::{Permit, Tls};
use crate::protocol::postgres::{PostgresSession, Settings};
use crate::protocol::{Answer, Buffers, CancelKeys, CloseReason, Expulsion, Session, Step};
use crate::vault::Stamp;

/// How long the last bytes to the agent may take.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

/// Why a connection ended, for its record.
struct Ending {
    reason: String,
    /// `agent`, `policy`, `upstream`, `gate` or none for an orderly end.
    blame: Option<&'static str>,
}

/// A connection under way.
pub(super) struct Drive {
    pub(super) proxy: Arc<Proxy>,
    pub(super) admitted: Admitted,
    pub(super) context: Context,
    pub(super) session: Box<dyn Session>,
    pub(super) io: Buffers,
    pump: Pump,
    /// None while the TLS handshake has it.
    pub(super) agent: Option<Stream>,
    pub(super) handshake: Option<Handshake>,
    /// The version of TLS that the agent speaks.
    pub(super) agent_tls: Option<&'static str>,
    pub(super) upstream: Option<Stream>,
    pub(super) permit: Option<Permit>,
    /// The vault's answer, while it is waited for.
    pub(super) asked: Option<Asked>,
    /// The user that it logs in as, unless the credential brings another.
    pub(super) login: String,
    /// Which credential it logs in with.
    pub(super) stamp: Option<Stamp>,
    pub(super) memo: Memo,
    /// Whether some operation runs.
    pub(super) busy: Busy,
    /// When each running operation was allowed.
    pub(super) running: HashMap<u64, Instant>,
    /// The policy generation that last confirmed the service.
    pub(super) generation: u64,
    pub(super) cancel: Option<CancelGuard>,
    established: bool,
    upstream_shut: bool,
    pub(super) opened: bool,
    ending: Option<Ending>,
}

impl Drive {
    pub(super) fn new(proxy: &Arc<Proxy>, admitted: Admitted, agent: TcpStream) -> Self {
        let settings = Settings {
            user: admitted.service.user.clone(),
            users: admitted.service.users.keys().cloned().collect(),
            databases: admitted.service.databases.clone(),
            search_path: admitted.service.search_path.clone(),
            tls: admitted.service.tls != Tls::Disable,
            auth: admitted.service.auth.clone(),
            message_limit: proxy.limits.message,
        };
        let share = {
            let session = admitted.session.look();
            proxy.budget.share(session.outermost())
        };
        let seeds = rand::random();
        let statements = Arc::clone(&proxy.statements);
        let session = PostgresSession::new(Arc::new(settings), statements, seeds, admitted.id);
        Self {
            context: admitted.context("", ""),
            session: Box::new(session),
            io: Buffers::default(),
            pump: Pump::new(proxy.limits.message, share),
            agent: Some(Stream::Plain(agent)),
            handshake: None,
            agent_tls: None,
            upstream: None,
            permit: None,
            asked: None,
            login: String::new(),
            stamp: None,
            memo: Memo::default(),
            busy: Busy::new(proxy),
            running: HashMap::new(),
            generation: 0,
            cancel: None,
            established: false,
            upstream_shut: false,
            opened: false,
            ending: None,
            proxy: Arc::clone(proxy),
            admitted,
        }
    }

    /// Runs the connection to its end.
    pub(super) async fn run(mut self, left: Left) {
        let draining = self.proxy.draining.subscribe();
        let session = self.admitted.session.end();
        let policy = self.proxy.policy_changes.clone();
        let mut outside = Outside::new(self.proxy.limits.startup, draining, session, policy, left);
        if self.proxy.open() > self.proxy.limits.connections {
            self.expel(Expulsion::TooMany, "too many connections", Some("gate"));
        }
        while self.ending.is_none() {
            self.confirm_service();
            if let Err(ending) = self.admitted.session.alive() {
                self.cut(ending);
                continue;
            }
            let step = self.session.advance(&mut self.io);
            if !matches!(step, Step::Idle) {
                self.take(step).await;
                continue;
            }
            if outside.is_draining() && self.running.is_empty() {
                self.expel(Expulsion::Draining, "the daemon stops", Some("gate"));
                continue;
            }
            if self.pump.agent_closed() {
                self.follow_agent().await;
                // Nothing more may ever happen that would end the wait.
                if self.ending.is_some() {
                    break;
                }
            }
            self.wait(&mut outside).await;
        }
        self.finish().await;
    }

    /// Until something has moved or happened.
    async fn wait(&mut self, outside: &mut Outside) {
        let established = self.established;
        self.pump.hear(&*self.session);
        tokio::select! {
            // Mostly something moves, and then the rest is not looked at.
            biased;
            moved = poll_fn(|cx| match &mut self.agent {
                Some(agent) => self.pump.poll(cx, &mut self.io, agent, self.upstream.as_mut()),
                None => Poll::Pending,
            }) => self.moved(moved),
            secured = shaken(&mut self.handshake) => self.agent_secured(secured),
            handed = answered(&mut self.asked) => {
                let answer = self.credential(handed);
                self.session.answer(answer, &mut self.io);
            }
            heard = outside.next(!established) => match heard {
                // All are looked for at each turn.
                Heard::Draining | Heard::SessionEnded | Heard::PolicyChanged => {}
                Heard::Left => self.end("no agent is left in its network namespace", None),
                Heard::TooLate => self.too_slow(),
            }
        }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Idle => {}
            Step::AgentTls(hello) => self.secure_agent(hello),
            Step::Dial(opening) => {
                let answer = self.dial(&opening).await;
                self.session.answer(answer, &mut self.io);
            }
            Step::StartTls => {
                let answer = self.secure().await;
                self.session.answer(answer, &mut self.io);
            }
            // Waited for with everything else that may happen: it can take its time.
            Step::NeedCredential => self.ask_for_credential(),
            Step::Established(keys) => self.established(keys),
            Step::Judge(question) => {
                let verdict = self.judge(&question).await;
                self.session.answer(Answer::Verdict(verdict), &mut self.io);
            }
            Step::Finished(outcome) => self.record_outcome(&outcome),
            Step::Cancel(key) => {
                self.cancel(&key).await;
                self.end("a cancel request", None);
            }
            Step::Close(reason) => self.closed(reason),
        }
    }

    fn too_slow(&mut self) {
        let (reason, blame) = match (&self.asked, self.opened) {
            (Some(_), _) => ("the credential took too long", "gate"),
            (None, true) => ("the start-up took too long", "upstream"),
            // Until it has said what it wants, it is the agent that we wait for.
            (None, false) => ("the start-up took too long", "agent"),
        };
        self.expel(Expulsion::TooSlow, reason, Some(blame));
    }

    fn moved(&mut self, moved: Moved) {
        match moved {
            Moved::Progress => linger::passed(self.proxy.busy()),
            // Dealt with before the next wait: what was said still runs.
            Moved::AgentClosed => {}
            Moved::AgentGone => self.end("the agent went away", None),
            Moved::UpstreamClosed => self.upstream_closed(),
            Moved::NoRoom => {
                let reason = "no memory is left for a message of this size";
                self.expel(Expulsion::NoMemory, reason, Some("gate"));
            }
        }
    }

    /// The agent sends no more. As the server does: what it said still runs, and its
    /// answer is still sent; then the upstream hears that nothing more will come.
    async fn follow_agent(&mut self) {
        let Some(upstream) = self.upstream.as_mut().filter(|_| self.established) else {
            return self.end("the agent closed the connection before the login", None);
        };
        let said = self.io.to_upstream.is_empty() && !self.session.is_waiting();
        if said && !self.upstream_shut {
            self.upstream_shut = true;
            if !matches!(timeout(FAREWELL, upstream.shutdown()).await, Ok(Ok(()))) {
                self.end("the agent closed the connection", None);
            }
        }
    }

    /// A new policy may have changed or dropped the service: its connections end.
    fn confirm_service(&mut self) {
        let policy = self.proxy.policy.load();
        if self.opened && policy.generation() != self.generation {
            self.generation = policy.generation();
            let service = &self.admitted.service;
            if policy.service(&service.name) != Some(service) {
                let reason = "the policy has changed or dropped the service";
                self.expel(Expulsion::Revoked, reason, Some("policy"));
            }
        }
    }

    /// The upstream has closed: pass on its last words, then say so.
    fn upstream_closed(&mut self) {
        self.upstream = None;
        loop {
            match self.session.advance(&mut self.io) {
                Step::Finished(outcome) => self.record_outcome(&outcome),
                Step::Close(reason) => return self.closed(reason),
                _ => break,
            }
        }
        let blame = if self.pump.agent_closed() {
            None
        } else {
            Some("upstream")
        };
        self.expel(
            Expulsion::UpstreamGone,
            "the upstream closed the connection",
            blame,
        );
    }

    fn established(&mut self, keys: CancelKeys) {
        self.established = true;
        let target = Target {
            session: self.admitted.session.current().id.clone(),
            connection: self.admitted.id,
            service: self.admitted.service.name.clone(),
            upstream: self.admitted.upstream(),
            host: self.admitted.target.host.to_string(),
            key: keys.upstream,
        };
        self.cancel = Some(self.proxy.cancels.keep(keys.agent, target));
    }

    fn closed(&mut self, reason: CloseReason) {
        match reason {
            CloseReason::Finished => self.end("the agent said goodbye", None),
            CloseReason::AgentProtocol(what) => self.end(what, Some("agent")),
            CloseReason::UpstreamProtocol(what) => {
                let service = &self.admitted.service.name;
                self.proxy
                    .refusals
                    .say(&format!("service {service}: {what}"));
                self.end(what, Some("upstream"));
            }
            CloseReason::UpstreamLogin(words) => {
                let service = &self.admitted.service;
                // Wrong password. What the agent can bring about (the name of a database)
                // must not cost others their credential.
                let credential = service.credential_of(&self.login);
                if let (Some(credential), Some(stamp)) = (credential, &self.stamp)
                    && words.starts_with("28P01")
                {
                    self.proxy.vault.distrust(credential, stamp);
                }
                let service = &service.name;
                let reason = format!("service {service} refused the gate's login: {words}");
                self.proxy.refusals.say(&reason);
                // A credential that the server does not take is our configuration's fault.
                self.end(reason, Some("gate"));
            }
            CloseReason::Refused => self.end("refused", Some("policy")),
            CloseReason::UpstreamGone => self.end("the upstream went away", Some("upstream")),
        }
    }

    /// The session is over: what runs on the server is stopped too.
    fn cut(&mut self, ending: identity::Ending) {
        self.expel(Expulsion::Revoked, &ending.to_string(), Some("policy"));
        if !self.running.is_empty() {
            self.stop_running(self.running.len());
        }
    }

    fn expel(&mut self, why: Expulsion, reason: &str, blame: Option<&'static str>) {
        self.session.expel(why, &mut self.io);
        if matches!(why, Expulsion::Revoked) {
            // What was judged by what holds no more, and not sent yet, is not sent.
            self.io.to_upstream.clear();
        }
        self.end(reason, blame);
    }

    pub(super) fn end(&mut self, reason: impl Into<String>, blame: Option<&'static str>) {
        self.ending.get_or_insert(Ending {
            reason: reason.into(),
            blame,
        });
    }

    /// Flushes what is queued, closes, and records the end.
    async fn finish(mut self) {
        for outcome in self.session.abandon() {
            self.record_outcome(&outcome);
        }
        let last = std::mem::take(&mut self.io.to_agent);
        if let Some(agent) = &mut self.agent
            && timeout(FAREWELL, agent.write_all(&last)).await.is_ok()
        {
            // Either end may be gone already; the record is what counts.
            let _ = timeout(FAREWELL, agent.shutdown()).await;
        }
        if let Some(upstream) = &mut self.upstream {
            let last = std::mem::take(&mut self.io.to_upstream);
            let _ = timeout(FAREWELL, upstream.write_all(&last)).await;
            let _ = timeout(FAREWELL, upstream.shutdown()).await;
        }
        let ending = self.ending.take();
        let ending = ending.unwrap_or(Ending {
            reason: "ended".into(),
            blame: None,
        });
        let event = match (self.opened, ending.blame) {
            (true, _) => Event::ConnectionClose,
            (false, Some(_)) => Event::ConnectionRefused,
            // A cancel request, or an agent that left before it said anything.
            (false, None) => return,
        };
        let body = CloseBody {
            reason: &ending.reason,
            blame: ending.blame,
        };
        self.proxy
            .audit
            .append_later(&Record::new(event, &self.context, &body));
    }
}

#[derive(Serialize)]
struct CloseBody<'a> {
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    blame: Option<&'static str>,
}

#[cfg(test)]
#[path = "drive_tests.rs"]
mod tests;
