//! One place's credential among all who ask for it at once, and its lease.
//!
//! Invariants: while somebody fetches, the others wait for that answer, good or bad, so a
//! slow server meets one question at a time; a fetch runs to its end though who asked goes
//! away, and its lease is kept or given back. What has no lease is forgotten once those
//! who waited have it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::term::Term;
use super::{Fetched, Handed, Lease, Source, Stamp, VaultError};
use crate::policy::Permit;

/// How long an answer without a lease is there for those who asked while it was fetched.
const LINGER: Duration = Duration::from_secs(1);
/// Between two leases that are given back because a service did not take them: else one
/// service that takes none would end those of all others.
pub(super) const PAUSE: Duration = Duration::from_secs(10);

type Answer = Result<Handed, Arc<VaultError>>;

/// A source and its last answer.
pub(super) struct Shared {
    source: Box<dyn Source>,
    /// Held by who fetches.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<Last>,
    distrusted: Option<Instant>,
    /// Given back: nobody is to fetch here any more.
    closed: bool,
}

struct Last {
    answer: Answer,
    /// When it had come.
    ended: Instant,
    held: Option<Held>,
}

struct Held {
    lease: Lease,
    term: Term,
}

impl Shared {
    pub(super) fn new(source: Box<dyn Source>) -> Self {
        Self {
            source,
            turn: tokio::sync::Mutex::default(),
            state: Mutex::default(),
        }
    }

    /// None when it was closed: look it up anew.
    pub(super) async fn credential(self: &Arc<Self>, permit: &Permit) -> Option<Answer> {
        let asked = Instant::now();
        let (shared, permit) = (Arc::clone(self), permit.clone());
        let work = tokio::spawn(async move { shared.answer(&permit, asked).await });
        match work.await {
            Ok(answer) => answer,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Some(Err(Arc::new(VaultError::Stopped))),
        }
    }

    async fn answer(&self, permit: &Permit, asked: Instant) -> Option<Answer> {
        let _turn = self.turn.lock().await;
        {
            let state = self.lock();
            if state.closed {
                return None;
            }
            let last = state.last.as_ref();
            if let Some(last) = last.filter(|last| last.ended >= asked || self.is_good(last)) {
                return Some(last.answer.clone());
            }
        }
        let begun = Instant::now();
        let (answer, lease) = match self.source.fetch(permit).await {
            Ok(Fetched { credential, lease }) => (Ok(Handed::new(credential)), lease),
            Err(error) => (Err(Arc::new(error)), None),
        };
        let held = lease.map(|lease| Held {
            term: Term::new(begun, lease.lasts, lease.renewable),
            lease,
        });
        let last = Last {
            answer: answer.clone(),
            ended: Instant::now(),
            held,
        };
        if let Some(last) = self.put(last) {
            self.revoke(last).await;
            return None;
        }
        Some(answer)
    }

    /// Keeps it; unless nobody may have it any more.
    fn put(&self, last: Last) -> Option<Last> {
        let mut state = self.lock();
        if state.closed {
            return Some(last);
        }
        state.last = Some(last);
        None
    }

    fn is_good(&self, last: &Last) -> bool {
        let now = Instant::now();
        let good = |held: &Held| !held.term.is_over(now) && self.source.lives(&held.lease);
        last.held.as_ref().is_some_and(good)
    }

    /// Renews what is due and forgets what is over.
    pub(super) async fn keep(&self) {
        let now = Instant::now();
        let due = {
            let mut state = self.lock();
            state.last.take_if(|last| match &last.held {
                Some(_) => !self.is_good(last),
                None => last.ended + LINGER <= now,
            });
            state.due(now)
        };
        if let Some((id, stamp)) = due {
            self.renew(&id, &stamp, now).await;
        }
    }

    async fn renew(&self, id: &str, stamp: &Stamp, now: Instant) {
        let renewed = self.source.renew(id).await;
        let mut state = self.lock();
        let Some(held) = state.find(stamp).and_then(|last| last.held.as_mut()) else {
            return;
        };
        match renewed {
            Ok(lasts) => held.term.renewed(now, lasts, true),
            // The server does not know it any more: the next to ask gets a new one.
            Err(VaultError::Status { status: 400, .. } | VaultError::NotFound(_)) => {
                tracing::warn!("a credential's lease is over before its time");
                state.last = None;
            }
            Err(error @ VaultError::Denied { .. }) => {
                held.term.stop_renewing();
                tracing::warn!("a credential's lease will not be renewed: {error}");
            }
            Err(error) => {
                tracing::warn!("a credential's lease is not renewed yet: {error}");
            }
        }
    }

    /// A service did not take this one: who asks next gets another.
    pub(super) fn distrust(self: &Arc<Self>, stamp: &Stamp) {
        let now = Instant::now();
        let last = {
            let mut state = self.lock();
            let early = state.distrusted.is_some_and(|at| now < at + PAUSE);
            if early || state.find(stamp).is_none() {
                return;
            }
            state.distrusted = Some(now);
            state.last.take()
        };
        if let Some(last) = last {
            let shared = Arc::clone(self);
            tokio::spawn(async move { shared.revoke(last).await });
        }
    }

    /// Gives the lease back, if there is one, and hands out none from now on.
    pub(super) async fn give_back(&self) {
        let last = {
            let mut state = self.lock();
            state.closed = true;
            state.last.take()
        };
        if let Some(last) = last {
            self.revoke(last).await;
        }
        // Who fetches now gives that back before its turn ends.
        drop(self.turn.lock().await);
    }

    async fn revoke(&self, last: Last) {
        let id = last.held.and_then(|held| held.lease.id);
        if let Some(id) = id
            && let Err(error) = self.source.revoke(&id).await
        {
            tracing::warn!("a credential's lease is not given back, and ends by itself: {error}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The last answer, if it is this one.
    fn find(&mut self, stamp: &Stamp) -> Option<&mut Last> {
        let is_it = |last: &&mut Last| last.answer.as_ref().is_ok_and(|it| it.stamp == *stamp);
        self.last.as_mut().filter(is_it)
    }

    /// The lease, if it is to be renewed now.
    fn due(&mut self, now: Instant) -> Option<(String, Stamp)> {
        let last = self.last.as_mut()?;
        let stamp = last.answer.as_ref().ok()?.stamp.clone();
        let held = last.held.as_mut()?;
        let id = held.lease.id.clone()?;
        held.term.take_due(now).then_some((id, stamp))
    }
}
