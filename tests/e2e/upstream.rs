//! The upstream misbehaves: the agent gets an error of class 08, the record says whose
//! fault it was.

use std::time::{Duration, Instant};

use portcullis_tests::wait;

use crate::stage::{AT_ONCE, Stage};

const LIMIT: Duration = Duration::from_secs(30);

/// What `raw_client.py` prints of the server's answer to a start-up: code and message.
fn startup_error(stage: &Stage) -> String {
    let done = stage.python("raw_client.py", &["startup-error"], LIMIT);
    assert_eq!(done.code(), 0, "{}", done.both());
    done.stdout.trim().to_owned()
}

#[test]
fn a_server_that_is_down_gives_08_and_comes_back() {
    let mut stage = Stage::new();
    stage.server.stop().expect("stop");
    let start = Instant::now();
    let error = startup_error(&stage);
    assert!(error.starts_with("08"), "{error}");
    assert!(start.elapsed() < AT_ONCE * 2, "{:?}", start.elapsed());
    stage.server.start_again().expect("start");
    stage.assert_works();
}

#[test]
fn a_wrong_password_is_ours_to_mend_and_the_agent_learns_nothing() {
    let stage = Stage::new();
    stage
        .server
        .sql("postgres", "ALTER ROLE agent_ro PASSWORD 'changed'")
        .expect("alter");
    let error = startup_error(&stage);
    for detail in ["agent_ro", "password", "authentication failed"] {
        assert!(!error.contains(detail), "the agent was told: {error}");
    }
    let record = stage
        .daemon
        .audit_line("the upstream's words", |line| {
            line.to_string().contains("password authentication failed")
        })
        .expect("record");
    assert!(record.to_string().contains("shop"), "{record}");
}

#[test]
fn a_server_that_dies_ends_the_connection_with_an_error() {
    let mut stage = Stage::new();
    let mut psql = stage.open_psql();
    assert_eq!(psql.query("SELECT 1").expect("works").trim(), "1");
    stage.server.stop().expect("stop");
    let start = Instant::now();
    let answer = match psql.query("SELECT 2") {
        Ok(answer) => answer,
        Err(error) => format!("{error:#}"),
    };
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
    assert!(
        answer.contains("connection") || answer.contains("08"),
        "{answer}"
    );
    drop(psql);
    stage.server.start_again().expect("start");
    stage.assert_works();
}

#[test]
fn a_query_is_cancelled_as_without_the_gate() {
    let stage = Stage::with(|options| {
        let rule = "\n  - {id: wait, role: analyst, allow: [sql.call], on: ['shop/pg_catalog.pg_sleep']}\n";
        options.policy.push_str(rule);
    });
    let done = stage.python("psycopg_agent.py", &["cancel"], LIMIT);
    assert_eq!(done.stdout.trim(), "57014", "{}", done.stderr);
    wait::until("the backend to be idle or gone", LIMIT, || {
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'agent_ro' AND state = 'active'";
        Ok((stage.fact(sql) == "0").then_some(()))
    })
    .expect("cancelled");
}
