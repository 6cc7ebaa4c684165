//! The ends of sessions: time, revocation, and daemons that restart meanwhile.

use std::time::{Duration, Instant};

use portcullis_tests::audit::{is, text};
use portcullis_tests::{process, wait};
use serde_json::Value;

use super::{ATTRIBUTE, LIMIT, cgroup_of, portcullis, psql, session_of, sessions};
use crate::stage::{AT_ONCE, Stage};

/// The analyst may sleep.
fn with_sleep() -> Stage {
    Stage::with(|options| {
        options.policy += "\n  - {id: naps, role: analyst, allow: [sql.call], \
                           on: ['shop/pg_catalog.pg_sleep']}\n";
    })
}

/// Expiry and revocation count within a second; the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn when_its_time_is_up_a_live_connection_is_cut_and_new_ones_are_refused() {
    let stage = with_sleep();
    let agent = stage.agent().with(&["--for", "2s"]);
    let start = Instant::now();
    let mut shell = agent.shell().expect("a shell");
    let query = format!(
        "psql -XAtq -h 127.0.0.1 -p {} -d shop -c 'select pg_sleep(20)'",
        stage.server.port()
    );
    let (said, code) = shell.run(&query, LIMIT).expect("psql");
    assert!(
        start.elapsed() < Duration::from_secs(2) + SOON,
        "{:?}",
        start.elapsed()
    );
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("the agent session has ended"), "{said}");
    let start = Instant::now();
    let (said, code) = shell.run(&query, LIMIT).expect("psql");
    assert!(code != 0 && said.contains("Connection refused"), "{said}");
    assert!(start.elapsed() < AT_ONCE);
    let ended = stage
        .daemon
        .audit_line("the end", |line| is(line, "session_end"));
    assert_eq!(text(&ended.expect("record"), "reason"), "expired");
    stage
        .daemon
        .audit_line("the refusal of the ended session", |line| {
            is(line, "gate_refused") && text(line, "reason") == "its session has ended"
        })
        .expect("record");
    assert_eq!(sessions(&stage)[0]["ended"], "expired");
}

#[test]
fn revoking_cuts_a_running_query_and_stops_it_on_the_server() {
    let stage = with_sleep();
    let mut shell = stage.agent().shell().expect("a shell");
    let id = session_of(&stage, &mut shell);
    let query = format!(
        "psql -XAtq -h 127.0.0.1 -p {} -d shop -c 'select count(*), pg_sleep(60) from orders'",
        stage.server.port()
    );
    let running = "SELECT count(*) FROM pg_stat_activity \
                   WHERE query LIKE '%pg_sleep(60) from orders' AND state = 'active' AND pid <> pg_backend_pid()";
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| shell.run(&query, LIMIT).expect("psql"));
        wait::until("the query to run", LIMIT, || {
            Ok((stage.fact(running) == "1").then_some(()))
        })
        .expect("runs");
        let start = Instant::now();
        let done = portcullis(&stage, &["revoke", &id]);
        assert_eq!(done.code(), 0, "{}", done.both());
        let (said, code) = asked.join().expect("answers");
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        assert!(
            code != 0 && said.contains("the agent session has ended"),
            "{said}"
        );
        wait::until("the query to stop", SOON, || {
            Ok((stage.fact(running) == "0").then_some(()))
        })
        .expect("stops");
    });
    let ended = stage
        .daemon
        .audit_line("the end", |line| is(line, "session_end"));
    let ended = ended.expect("record");
    assert_eq!(
        (text(&ended, "reason"), &ended["by_uid"]),
        ("revoked".to_owned(), &Value::from(0))
    );
}

#[test]
fn a_restart_does_not_undo_an_end() {
    let mut stage = Stage::new();
    let mut revoked = stage.agent().shell().expect("a shell");
    let mut living = stage.agent().shell().expect("a shell");
    let id = session_of(&stage, &mut revoked);
    assert_eq!(portcullis(&stage, &["revoke", &id]).code(), 0);
    stage.daemon.kill9().expect("killed");
    stage.daemon.launch().expect("starts again");
    let query = format!(
        "psql -XAtq -h 127.0.0.1 -p {} -d shop -c 'select count(*) from orders'",
        stage.server.port()
    );
    let (said, code) = revoked.run(&query, LIMIT).expect("psql");
    assert!(code != 0 && said.contains("Connection refused"), "{said}");
    assert_eq!(
        living.run(&query, LIMIT).expect("psql"),
        ("300\n".into(), 0)
    );
    let again = portcullis(&stage, &["renew", &id, "--token-env", "HOME"]);
    assert_ne!(again.code(), 0, "{}", again.both());
}

#[test]
fn kill_ends_the_processes_too() {
    let stage = Stage::new();
    let mut shell = stage.agent().shell().expect("a shell");
    let id = session_of(&stage, &mut shell);
    assert_eq!(portcullis(&stage, &["revoke", "--kill", &id]).code(), 0);
    shell.run("true", LIMIT).expect_err("it was killed");
    wait::until("the session to go", LIMIT, || {
        Ok(sessions(&stage).is_empty().then_some(()))
    })
    .expect("gone");
    let done = portcullis(&stage, &["revoke", &id]);
    assert!(
        done.code() == 1 && done.stderr.contains(&id),
        "{}",
        done.both()
    );
}

#[test]
fn an_end_that_could_not_be_written_down_still_counts_after_a_restart() {
    let mut stage = Stage::new();
    let mut shell = stage.agent().shell().expect("a shell");
    let id = session_of(&stage, &mut shell);
    let cgroup = cgroup_of(&stage, &id);
    let before = xattr::get(&cgroup, ATTRIBUTE)
        .expect("getxattr")
        .expect("is there");
    assert_eq!(portcullis(&stage, &["revoke", &id]).code(), 0);
    stage.daemon.kill9().expect("killed");
    xattr::set(&cgroup, ATTRIBUTE, &before).expect("setxattr");
    stage.daemon.launch().expect("starts again");
    let query = psql(&stage, "select count(*) from orders");
    let (said, code) = shell.run(&query, LIMIT).expect("psql");
    assert!(code != 0 && said.contains("Connection refused"), "{said}");
}

#[test]
fn what_was_sent_behind_a_running_statement_does_not_run_when_the_session_is_revoked() {
    let stage = with_sleep();
    let before = stage.fact("SELECT count(*) FROM staging WHERE id = 77");
    let port = stage.server.port().to_string();
    let script = portcullis_tests::paths::fixture("raw_client.py")
        .display()
        .to_string();
    let words = ["python3", "-B", &script, &port, "waiting"];
    let mut command = stage.agent().command(&words);
    let _agent = process::Process::spawn(&mut command, nix::sys::signal::Signal::SIGKILL);
    let active = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'";
    wait::until("the first to run", LIMIT, || {
        Ok((stage.fact(active) == "1").then_some(()))
    })
    .expect("runs");
    stage
        .daemon
        .audit_line("the last of them", |line| {
            is(line, "decision")
                && text(line, "statement").contains("77")
                && text(line, "request").ends_with("-4")
        })
        .expect("record");
    let id = sessions(&stage)[0]["session"]
        .as_str()
        .expect("id")
        .to_owned();
    assert_eq!(portcullis(&stage, &["revoke", &id]).code(), 0);
    let gone = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'agent_ro'";
    wait::until("the server's process to end", LIMIT, || {
        Ok((stage.fact(gone) == "0").then_some(()))
    })
    .expect("ends");
    assert_eq!(
        stage.fact("SELECT count(*) FROM staging WHERE id = 77"),
        before
    );
}

#[test]
fn a_session_that_ended_while_the_daemon_was_dead_has_its_end_in_the_record() {
    let mut stage = Stage::new();
    let mut shell = stage
        .agent()
        .with(&["--for", "2s"])
        .shell()
        .expect("a shell");
    let id = session_of(&stage, &mut shell);
    stage.daemon.kill9().expect("killed");
    std::thread::sleep(Duration::from_secs(2));
    stage.daemon.launch().expect("starts again");
    let end = stage.daemon.audit_line("the end", |line| {
        is(line, "session_end") && text(line, "session") == id
    });
    assert_eq!(text(&end.expect("record"), "reason"), "expired");
}
