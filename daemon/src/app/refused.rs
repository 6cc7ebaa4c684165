//! What the kernel programs refused, into the record and the counters.
//!
//! Every refusal is counted; of each session's only so many a second are recorded, the
//! next record says how many were not, and so does one more when a flood ends. The
//! refusal itself has happened by then and depends on none of this.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

use super::namespaces::Namespaces;
use super::sessions::Sessions;
use super::words;
use crate::audit::{AuditLog, Context, Event, Flood, Record};
use crate::capture::{Events, GateRefused};
use crate::metrics::Metrics;
use crate::types::CgroupId;

/// Refusals of one session recorded each second.
const REFUSALS: u32 = 20;
const TICK: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Body<'a> {
    reason: String,
    layer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unix: Option<String>,
    /// Level and name of a socket option.
    #[serde(skip_serializing_if = "Option::is_none")]
    option: Option<(u32, u32)>,
    pid: u32,
    uid: u32,
    command: &'a str,
    /// What the process runs now, if it still runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    executable: Option<PathBuf>,
    family: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    protocol: &'a str,
    /// Refusals of this session that were not recorded since the last one that was.
    dropped: u64,
}

/// A flood's last record.
#[derive(Serialize)]
struct EndBody {
    reason: &'static str,
    dropped: u64,
}

type Seen = Flood<Option<CgroupId>, Context>;

/// Who writes them.
pub(super) struct Recorder {
    pub(super) sessions: Arc<Sessions>,
    pub(super) audit: Arc<AuditLog>,
    pub(super) metrics: Arc<Metrics>,
    /// Told of refusals, since one may be the first sight of a new network namespace.
    pub(super) namespaces: Arc<Namespaces>,
}

impl Recorder {
    /// Reads events for as long as it is polled.
    pub(super) async fn run(self, mut events: Events) {
        let mut flood = Flood::new(REFUSALS);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                refused = events.next() => match refused {
                    Ok(refused) => {
                        self.namespaces.notice(&refused);
                        self.note(&refused, &mut flood);
                    }
                    Err(error) => {
                        tracing::error!("kernel events can't be read: {error}");
                        return;
                    }
                },
                _ = ticks.tick() => self.tick(&events, &mut flood),
            }
        }
    }

    fn note(&self, refused: &GateRefused, flood: &mut Seen) {
        let reason = refused.reason.to_string();
        self.metrics.gate_refused(refused.hook, &reason);
        let Some(dropped) = flood.admit(refused.session, Instant::now()) else {
            return;
        };
        let GateRefused { family, kind, .. } = *refused;
        let body = Body {
            reason,
            layer: refused.hook,
            destination: refused.dst.map(|dst| dst.to_string()),
            unix: refused.unix.map(|address| address.to_string()),
            option: refused.option,
            pid: refused.pid,
            uid: refused.uid,
            command: &refused.comm,
            executable: executable(refused.pid),
            family: &words::family(family),
            kind: &words::kind(kind),
            protocol: &words::protocol(family, refused.protocol),
            dropped,
        };
        let context = self.sessions.context_of(refused.session);
        self.audit
            .append_later(&Record::new(Event::GateRefused, &context, &body));
        flood.keep(refused.session, context);
    }

    fn tick(&self, events: &Events, flood: &mut Seen) {
        match events.lost() {
            Ok(lost) => self.metrics.set_events_lost(lost),
            Err(error) => tracing::warn!("{error}"),
        }
        for (who, dropped) in flood.ended(Instant::now()) {
            let body = EndBody {
                reason: "more refusals, not recorded one by one",
                dropped,
            };
            let who = who.unwrap_or_default();
            self.audit
                .append_later(&Record::new(Event::GateRefused, &who, &body));
        }
    }
}

/// Best effort: the process may have ended, or run something else by now.
fn executable(pid: u32) -> Option<PathBuf> {
    if pid == 0 {
        return None;
    }
    std::fs::read_link(format!("/proc/{pid}/exe")).ok()
}
