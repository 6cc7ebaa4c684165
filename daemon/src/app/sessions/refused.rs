//! What was asked of sessions and refused, into the record: of each asker so many a second,
//! the rest counted.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::time::Instant;

use super::{Sessions, context};
use crate::app::flood::Flood;
use crate::audit::{Context, Event, Record};
use crate::control::Peer;
use crate::control::server::{Asked, ControlError};
use crate::types::CgroupId;

/// Refusals of one asker recorded each second.
const REFUSALS: u32 = 20;

/// Who asked: a process in a session, or a user outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Asker {
    Inside(CgroupId),
    Outside(u32),
}

/// The flood of each asker.
pub(super) struct Refusals(Mutex<Flood<Asker, Context>>);

impl Default for Refusals {
    fn default() -> Self {
        Self(Mutex::new(Flood::new(REFUSALS)))
    }
}

impl Refusals {
    fn lock(&self) -> MutexGuard<'_, Flood<Asker, Context>> {
        // Counters only.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Serialize)]
struct Body<'a> {
    /// What was asked for.
    asked: &'static str,
    /// Whom the asker named.
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<&'a str>,
    reason: String,
    uid: u32,
    pid: u32,
    dropped: u64,
}

/// A flood's last record.
#[derive(Serialize)]
struct EndBody {
    reason: &'static str,
    dropped: u64,
}

impl Sessions {
    /// Records a refusal, unless there are too many of this asker.
    pub(super) fn record_refusal(&self, peer: Peer, asked: &Asked<'_>, why: &ControlError) {
        let registry = &self.parts.registry;
        let (asker, session) = match asked {
            Asked::Narrower => {
                let session = self.sessions_around(peer).ok();
                let session = session.and_then(|around| around.into_iter().next());
                let asker = session.as_ref().map(|one| Asker::Inside(one.cgroup));
                (asker.unwrap_or(Asker::Outside(peer.uid)), session)
            }
            Asked::Renewal(id) => (Asker::Outside(peer.uid), registry.by_id(id)),
            Asked::Session(_) => (Asker::Outside(peer.uid), None),
        };
        let mut refusals = self.refusals.lock();
        let Some(dropped) = refusals.admit(asker, Instant::now()) else {
            return;
        };
        let body = Body {
            asked: asked.name(),
            claim: asked.claim(),
            reason: why.to_string(),
            uid: peer.uid,
            pid: peer.pid,
            dropped,
        };
        let context = session.map_or_else(Context::default, |session| context(&session));
        self.append(&context, &body);
        refusals.keep(asker, context);
    }

    /// To be called once a second: says what was dropped of floods that have ended.
    pub(in crate::app) fn tell_dropped(&self) {
        for (who, dropped) in self.refusals.lock().ended(Instant::now()) {
            let body = EndBody {
                reason: "more refusals, not recorded one by one",
                dropped,
            };
            self.append(&who.unwrap_or_default(), &body);
        }
    }

    fn append<B: Serialize + Sync>(&self, context: &Context, body: &B) {
        let record = Record::new(Event::SessionRefused, context, body);
        self.parts.proxy.audit.append_later(&record);
    }
}
