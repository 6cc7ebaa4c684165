//! One place's credential among all who ask for it at once, and its lease.
//!
//! Invariant: while somebody fetches, the others wait for that answer, good or bad; so a
//! slow server meets one question at a time. What has no lease is forgotten once those
//! who waited have it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Fetched, Lease, Source, VaultError};
use crate::policy::Permit;
use crate::types::Credential;

/// How long an answer without a lease is there for those who asked while it was fetched.
const LINGER: Duration = Duration::from_secs(1);
/// Between tries to renew.
const RETRY: Duration = Duration::from_secs(1);

/// A source and its last answer.
pub(super) struct Shared {
    source: Box<dyn Source>,
    last: Mutex<Option<Last>>,
}

struct Last {
    answer: Result<Credential, Arc<VaultError>>,
    /// When it had come.
    ended: Instant,
    lease: Option<Held>,
}

struct Held {
    lease: Lease,
    renew_at: Instant,
    /// Not handed out after this: a login takes time too.
    until: Instant,
}

impl Held {
    fn new(lease: Lease, from: Instant) -> Self {
        Self {
            renew_at: from + lease.lasts * 2 / 3,
            until: from + lease.lasts * 9 / 10,
            lease,
        }
    }
}

impl Shared {
    pub(super) fn new(source: Box<dyn Source>) -> Self {
        Self {
            source,
            last: Mutex::new(None),
        }
    }

    pub(super) async fn credential(&self, permit: &Permit) -> Result<Credential, Arc<VaultError>> {
        let asked = Instant::now();
        let mut last = self.last.lock().await;
        if let Some(last) = last.as_ref() {
            let leased = last.lease.as_ref();
            if last.ended >= asked || leased.is_some_and(|held| held.until > asked) {
                return last.answer.clone();
            }
        }
        let begun = Instant::now();
        let (answer, lease) = match self.source.fetch(permit).await {
            Ok(Fetched { credential, lease }) => (Ok(credential), lease),
            Err(error) => (Err(Arc::new(error)), None),
        };
        *last = Some(Last {
            answer: answer.clone(),
            ended: Instant::now(),
            lease: lease.map(|lease| Held::new(lease, begun)),
        });
        answer
    }

    /// Renews what is due and forgets what is over.
    pub(super) async fn keep(&self) {
        let now = Instant::now();
        let due = {
            // Whoever fetches has it in hand.
            let Ok(mut last) = self.last.try_lock() else {
                return;
            };
            let over = last.as_ref().is_some_and(|last| match &last.lease {
                Some(held) => held.until <= now,
                None => last.ended + LINGER <= now,
            });
            if over {
                *last = None;
            }
            let held = last.as_mut().and_then(|last| last.lease.as_mut());
            held.and_then(|held| {
                let due = held.lease.renewable && held.renew_at <= now;
                held.renew_at += RETRY * u32::from(due);
                held.lease.id.clone().filter(|_| due)
            })
        };
        if let Some(id) = due {
            self.renew(&id, now).await;
        }
    }

    async fn renew(&self, id: &str, now: Instant) {
        let renewed = self.source.renew(id).await;
        let mut last = self.last.lock().await;
        let Some(held) = last.as_mut().and_then(|last| last.lease.as_mut()) else {
            return;
        };
        if held.lease.id.as_deref() != Some(id) {
            return;
        }
        match renewed {
            Ok(lasts) => {
                let lease = Lease {
                    lasts,
                    ..held.lease.clone()
                };
                *held = Held::new(lease, now);
            }
            // The server does not know it any more: the next to ask gets a new one.
            Err(VaultError::Status { status: 400, .. } | VaultError::NotFound(_)) => {
                tracing::warn!("a credential's lease is over before its time");
                *last = None;
            }
            Err(error) => {
                tracing::warn!("a credential's lease is not renewed yet: {error}");
            }
        }
    }

    /// Gives the lease back, if there is one.
    pub(super) async fn give_back(&self) {
        let last = self.last.lock().await.take();
        let id = last.and_then(|last| last.lease?.lease.id);
        if let Some(id) = id
            && let Err(error) = self.source.revoke(&id).await
        {
            tracing::warn!("a credential's lease is not given back, and ends by itself: {error}");
        }
    }
}
