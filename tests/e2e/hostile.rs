//! Agents that speak the protocol badly: refused, bounded, and nobody else notices.

use std::fs;
use std::time::Duration;

use portcullis_tests::wait;
use portcullis_tests::{audit, shop};

use crate::stage::Stage;

const LIMIT: Duration = Duration::from_secs(60);

/// Runs one mode of `raw_client.py`; it exits with 0 when the gate did what it should.
fn raw(stage: &Stage, mode: &str) {
    let done = stage.python("raw_client.py", &[mode], LIMIT);
    assert_eq!(done.code(), 0, "{mode}: {}", done.both());
}

/// The daemon's resident memory in KiB.
pub fn memory(stage: &Stage) -> u64 {
    let pid = stage.daemon.pid().expect("runs");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("VmRSS");
    line.split_whitespace()
        .nth(1)
        .and_then(|word| word.parse().ok())
        .expect("a number")
}

#[test]
fn a_half_sent_start_up_times_out() {
    let stage = Stage::new();
    raw(&stage, "half-startup");
    raw(&stage, "silent");
    stage.assert_works();
}

#[test]
fn impossible_lengths_end_the_connection_and_cost_no_memory() {
    let stage = Stage::new();
    stage.assert_works();
    let before = memory(&stage);
    raw(&stage, "bad-lengths");
    let after = memory(&stage);
    assert!(
        after < before + 64 * 1024,
        "{before} KiB before, {after} KiB after"
    );
    stage.assert_works();
}

#[test]
fn other_protocols_are_refused_at_once() {
    let stage = Stage::new();
    raw(&stage, "garbage");
    stage.assert_works();
}

#[test]
fn an_agent_that_leaves_in_mid_result_frees_the_backend() {
    let stage = Stage::new();
    raw(&stage, "leave");
    wait::until("the backend to be gone", LIMIT, || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'agent_ro'";
        Ok((stage.fact(sql) == "0").then_some(()))
    })
    .expect("gone");
    let line = stage
        .daemon
        .audit_line("the outcome", |line| audit::is(line, "outcome"));
    assert!(line.is_ok(), "{line:?}");
    stage.assert_works();
}

#[test]
fn five_hundred_connections_at_once() {
    // Five hundred logins at once take a debug build longer than the other tests' limit.
    let stage = Stage::with(|options| {
        options.limits = "{connections: 2000, startup_seconds: 50, drain_seconds: 2}".into();
    });
    raw(&stage, "five-hundred");
    stage.assert_works();
}

#[test]
fn a_denied_statement_late_in_a_pipeline_never_runs() {
    let stage = Stage::new();
    raw(&stage, "pipeline");
    assert_eq!(stage.fact("SELECT count(*) FROM customers"), "200");
    stage
        .daemon
        .decision("DELETE FROM customers")
        .expect("recorded");
}

#[test]
fn a_denied_copy_ignores_the_data_that_follow() {
    let stage = Stage::new();
    raw(&stage, "denied-copy");
    stage.assert_works();
}

#[test]
fn a_rollback_brings_no_text_past_the_gate_that_it_would_read_otherwise() {
    let policy = format!(
        "version: 1\nroles: {{analyst: {{}}}}\nservices:\n  shop: {{proto: postgres, at: ['{}'], \
         tls: disable, user: agent_ro, database: shop, credential: 'file:{}/shop'}}\nrules:\n  \
         - {{id: wide, role: analyst, allow: [sql.read, sql.session, sql.tx], on: ['shop/*']}}\n  \
         - {{id: no-hr, role: analyst, deny: ['sql.*'], on: ['shop/hr.*']}}\n",
        shop::ADDRESS,
        shop::SECRETS,
    );
    let stage = Stage::with_policy(&policy, |_| {});
    raw(&stage, "restored-settings");
}
