//! Counters for `GET /metrics`, in Prometheus's text format (version 0.0.4).
//!
//! Counting is one atomic addition, after a look-up by a key, which is done once for what is
//! counted with each operation. Only the first event of a key allocates. What others count themselves
//! (open connections, sessions, the audit log's failures) comes as [`Gauges`] when it is
//! asked for. Absent on purpose: histograms, and labels whose values an agent chooses.

use std::collections::HashMap;
use std::fmt::{Display, Write};
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::types::ServiceName;

/// One number for each key.
#[derive(Debug)]
struct Counts<K>(RwLock<HashMap<K, Arc<AtomicU64>>>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<K: Eq + Hash + Ord> Counts<K> {
    fn add(&self, key: K, number: u64) {
        let counts = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get(&key) {
            count.fetch_add(number, Ordering::Relaxed);
            return;
        }
        drop(counts);
        self.of(key).fetch_add(number, Ordering::Relaxed);
    }

    /// The number itself, for whoever adds to it often.
    fn of(&self, key: K) -> Arc<AtomicU64> {
        let mut counts = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(counts.entry(key).or_default())
    }

    /// One line for each key, in order; `labels` says what stands between the braces.
    fn write(&self, text: &mut String, name: &str, help: &str, labels: impl Fn(&K) -> String) {
        head(text, name, help);
        let counts = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut lines: Vec<_> = counts.iter().collect();
        lines.sort_by_key(|(key, _)| *key);
        for (key, count) in lines {
            let count = count.load(Ordering::Relaxed);
            // Writing to a String can't fail.
            let _ = writeln!(text, "portcullis_{name}{{{}}} {count}", labels(key));
        }
    }
}

/// What is counted as it happens.
#[derive(Debug, Default)]
pub struct Metrics {
    decisions: Counts<(ServiceName, &'static str)>,
    connections: AtomicU64,
    refused: Counts<&'static str>,
    gate_refused: Counts<(&'static str, String)>,
    dns_refused: Counts<&'static str>,
    events_lost: AtomicU64,
}

/// One count of decisions.
#[derive(Debug, Clone)]
pub struct Decisions(Arc<AtomicU64>);

impl Decisions {
    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// What is asked for when the metrics are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gauges {
    /// Open connections.
    pub connections: u64,
    /// Live agent sessions.
    pub sessions: u64,
    /// Policy generation in force.
    pub generation: u64,
    /// Whether the newest policy was not taken.
    pub policy_rejected: bool,
    /// Records that could not be written.
    pub audit_failures: u64,
    /// Copies for the journal that were dropped.
    pub journal_dropped: u64,
    /// Layers of the gate that this host does not have.
    pub degraded: u64,
}

impl Metrics {
    /// Counts the operations of a service that were judged so; `decision` is `allow` or
    /// `deny`.
    pub fn decisions(&self, service: &ServiceName, decision: &'static str) -> Decisions {
        Decisions(self.decisions.of((service.clone(), decision)))
    }

    /// A connection reached the gate.
    pub fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// The gate refused a connection that had reached it.
    pub fn refused(&self, reason: &'static str) {
        self.refused.add(reason, 1);
    }

    /// A kernel program refused something.
    pub fn gate_refused(&self, layer: &'static str, reason: &str) {
        self.gate_refused.add((layer, reason.to_owned()), 1);
    }

    /// A name was not answered.
    pub fn dns_refused(&self, reason: &'static str) {
        self.dns_refused.add(reason, 1);
    }

    /// Kernel events that were lost since the maps were made.
    pub fn set_events_lost(&self, lost: u64) {
        self.events_lost.store(lost, Ordering::Relaxed);
    }

    /// All of it as text.
    pub fn render(&self, gauges: &Gauges) -> String {
        let mut text = String::new();
        let help = "Operations judged.";
        self.decisions
            .write(&mut text, "decisions_total", help, |(service, decision)| {
                format!("service=\"{}\",decision=\"{decision}\"", escaped(service))
            });
        let help = "Connections refused at the gate.";
        self.refused
            .write(&mut text, "connections_refused_total", help, |reason| {
                format!("reason=\"{}\"", escaped(reason))
            });
        let help = "Attempts refused by kernel programs.";
        self.gate_refused
            .write(&mut text, "gate_refused_total", help, |(layer, reason)| {
                format!("layer=\"{layer}\",reason=\"{}\"", escaped(reason))
            });
        let help = "Names that were not answered.";
        self.dns_refused
            .write(&mut text, "dns_refused_total", help, |reason| {
                format!("reason=\"{}\"", escaped(reason))
            });
        self.write_plain(&mut text, gauges);
        text
    }

    fn write_plain(&self, text: &mut String, gauges: &Gauges) {
        let connections = self.connections.load(Ordering::Relaxed);
        let lost = self.events_lost.load(Ordering::Relaxed);
        let mut say = |name: &str, help: &str, value: u64| {
            head(text, name, help);
            // Writing to a String can't fail.
            let _ = writeln!(text, "portcullis_{name} {value}");
        };
        say(
            "connections_total",
            "Connections that reached the gate.",
            connections,
        );
        say("connections_open", "Open connections.", gauges.connections);
        say("sessions", "Live agent sessions.", gauges.sessions);
        say("policy_generation", "Policy in force.", gauges.generation);
        let rejected = gauges.policy_rejected.into();
        say(
            "policy_rejected",
            "1 while the newest policy is not taken.",
            rejected,
        );
        say(
            "degraded_layers",
            "Layers that this host lacks.",
            gauges.degraded,
        );
        let failures = gauges.audit_failures;
        say(
            "audit_failures_total",
            "Records that could not be written.",
            failures,
        );
        say(
            "events_lost_total",
            "Kernel events that nobody read in time.",
            lost,
        );
        say(
            "journal_dropped_total",
            "Journal copies dropped.",
            gauges.journal_dropped,
        );
    }
}

/// What counts up is named `_total`.
fn head(text: &mut String, name: &str, help: &str) {
    let kind = if name.ends_with("_total") {
        "counter"
    } else {
        "gauge"
    };
    // Writing to a String can't fail.
    let _ = writeln!(
        text,
        "# HELP portcullis_{name} {help}\n# TYPE portcullis_{name} {kind}"
    );
}

/// A label's value as the format wants it.
fn escaped(value: impl Display) -> String {
    let value = value.to_string();
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_told_with_its_labels() {
        let metrics = Metrics::default();
        metrics.decisions(&"shop".into(), "allow").add();
        metrics.decisions(&"shop".into(), "allow").add();
        metrics.decisions(&"shop".into(), "deny").add();
        metrics.gate_refused("connect4", "not TCP");
        metrics.refused("no \"service\"");
        metrics.dns_refused("not a query");
        metrics.dns_refused("not a query");
        metrics.connected();
        metrics.set_events_lost(7);
        let text = metrics.render(&Gauges {
            sessions: 3,
            policy_rejected: true,
            ..Gauges::default()
        });
        for line in [
            "portcullis_decisions_total{service=\"shop\",decision=\"allow\"} 2",
            "portcullis_decisions_total{service=\"shop\",decision=\"deny\"} 1",
            "portcullis_gate_refused_total{layer=\"connect4\",reason=\"not TCP\"} 1",
            "portcullis_connections_refused_total{reason=\"no \\\"service\\\"\"} 1",
            "portcullis_dns_refused_total{reason=\"not a query\"} 2",
            "portcullis_connections_total 1",
            "portcullis_events_lost_total 7",
            "portcullis_sessions 3",
            "portcullis_policy_rejected 1",
            "# TYPE portcullis_sessions gauge",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
