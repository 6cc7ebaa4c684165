//! Where an agent can connect to at all, and where it can't.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use portcullis_tests::agent::Agent;
use portcullis_tests::audit::{self, text};
use portcullis_tests::wait;

use crate::stage::{AT_ONCE, Stage};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn an_unknown_port_is_refused_at_once_and_recorded() {
    let stage = Stage::new();
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind");
    listener.set_nonblocking(true).expect("nonblocking");
    let port = listener.local_addr().expect("address").port();
    let start = Instant::now();
    let done = stage
        .agent()
        .psql(port, "shop", "SELECT 1")
        .expect("psql runs");
    assert_ne!(done.code(), 0);
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
    stage
        .daemon
        .audit_line("the refusal", |line| {
            let refused = ["connection_refused", "gate_refused"];
            refused.iter().any(|event| audit::is(line, event))
                && line.to_string().contains(&port.to_string())
        })
        .expect("record");
    let accepted = listener.accept().map_err(|error| error.kind());
    assert!(
        matches!(accepted, Err(ErrorKind::WouldBlock)),
        "it got through: {accepted:?}"
    );
}

#[test]
fn a_database_that_the_policy_does_not_list_is_refused() {
    let stage = Stage::new();
    let done = stage
        .agent()
        .psql(stage.server.port(), "postgres", "SELECT 1")
        .expect("psql");
    assert_ne!(done.code(), 0);
    assert_eq!(done.stdout, "");
    assert!(done.stderr.contains("FATAL"), "{}", done.stderr);
    assert_eq!(
        stage.fact("SELECT count(*) FROM pg_stat_activity WHERE usename = 'agent_ro'"),
        "0"
    );
    stage.assert_works();
}

#[test]
fn a_principal_without_a_role_gets_no_connection() {
    let stage = Stage::new();
    let stranger = Agent::new(&stage.daemon, "stranger");
    let done = stranger
        .psql(stage.server.port(), "shop", "SELECT 1")
        .expect("runs");
    assert_ne!(done.code(), 0);
    assert_eq!(done.stdout, "");
}

#[test]
fn the_user_that_the_agent_names_does_not_matter() {
    let stage = Stage::new();
    let port = stage.server.port().to_string();
    let words = [
        "psql",
        "-XAtqw",
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-U",
        "postgres",
        "-d",
        "shop",
    ];
    let words: Vec<&str> = words
        .into_iter()
        .chain(["-c", "SELECT count(*) FROM orders"])
        .collect();
    let done = stage.agent().run(&words).expect("psql");
    assert_eq!(done.stdout.trim(), "300", "{}", done.stderr);
    let used = stage.fact(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'postgres' AND \
                           application_name = 'psql' AND pid <> pg_backend_pid()",
    );
    assert_eq!(used, "0");
}

#[test]
fn a_connection_is_recorded_from_open_to_close() {
    let stage = Stage::new();
    stage.assert_works();
    let decision = stage.daemon.decision("FROM orders").expect("decision");
    let connection = text(&decision, "connection");
    for event in ["connection_open", "connection_close"] {
        stage
            .daemon
            .audit_line(event, |line| {
                audit::is(line, event) && text(line, "connection") == connection
            })
            .expect(event);
    }
    let session = text(&decision, "session");
    for event in ["session_start", "session_end"] {
        stage
            .daemon
            .audit_line(event, |line| {
                audit::is(line, event) && text(line, "session") == session
            })
            .expect(event);
    }
}

#[test]
fn who_knocks_at_the_gates_port_from_outside_is_counted_and_not_written_each_time() {
    let stage = Stage::new();
    let config = std::fs::read_to_string(stage.daemon.config()).expect("config");
    let (_, rest) = config.split_once("port: ").expect("a port");
    let port = rest
        .split(',')
        .next()
        .expect("a number")
        .parse::<u16>()
        .expect("a port");
    for _ in 0..200 {
        // It is reset, sooner or later.
        let _ = std::net::TcpStream::connect(("127.0.0.1", port));
    }
    let counted = || {
        let lines = stage.daemon.audit()?;
        let refused = lines
            .iter()
            .filter(|line| audit::is(line, "connection_refused"));
        let (mut written, mut dropped) = (0, 0);
        for line in refused {
            written += u64::from(line["peer"].is_string());
            dropped += line["dropped"].as_u64().unwrap_or(0);
        }
        Ok((written + dropped == 200).then_some(written))
    };
    let written = wait::until("all to be counted", LIMIT, counted).expect("counted");
    assert!(written < 150, "{written} lines");
    stage.assert_works();
}
