//! A changed policy reaches live sessions; a broken one changes nothing.

use std::time::Duration;

use nix::sys::signal::Signal;
use portcullis_tests::agent::Psql;
use portcullis_tests::{audit, shop, wait};

use crate::stage::Stage;

const LIMIT: Duration = Duration::from_secs(10);
const SQL: &str = "SELECT count(*) FROM products";

fn is_refused(psql: &mut Psql) -> bool {
    psql.query(SQL).expect("answer").contains("42501")
}

fn policy_without_products(stage: &Stage) -> String {
    let policy = shop::policy(stage.server.port()).expect("policy");
    let narrower = policy.replace("{orders,products,customers}", "{orders,customers}");
    assert_ne!(narrower, policy);
    narrower
}

fn until_refused(psql: &mut Psql, want: bool) {
    wait::until("the new policy to be in force", LIMIT, || {
        Ok((is_refused(psql) == want).then_some(()))
    })
    .expect("reload");
}

#[test]
fn a_file_change_reaches_a_live_session() {
    let stage = Stage::new();
    let mut psql = stage.open_psql();
    assert!(!is_refused(&mut psql));
    stage
        .daemon
        .write_policy(&policy_without_products(&stage))
        .expect("write");
    until_refused(&mut psql, true);
    stage
        .daemon
        .write_policy(&shop::policy(stage.server.port()).expect("policy"))
        .expect("write");
    until_refused(&mut psql, false);
    stage
        .daemon
        .audit_line("policy_loaded", |line| audit::is(line, "policy_loaded"))
        .expect("record");
}

#[test]
fn a_prepared_statement_is_judged_by_the_new_policy() {
    let stage = Stage::new();
    let prepared = stage.daemon.path("prepared");
    let narrower = policy_without_products(&stage);
    std::thread::scope(|scope| {
        let agent = scope.spawn(|| {
            let file = prepared.display().to_string();
            stage.python(
                "psycopg_agent.py",
                &["prepared", &file],
                Duration::from_secs(60),
            )
        });
        let is_there = || Ok(prepared.exists().then_some(()));
        wait::until(
            "the statement to be prepared",
            Duration::from_secs(30),
            is_there,
        )
        .expect("prepared");
        stage.daemon.write_policy(&narrower).expect("write");
        let done = agent.join().expect("agent");
        assert_eq!(
            (done.code(), done.stdout.trim()),
            (0, "ok"),
            "{}",
            done.both()
        );
    });
}

#[test]
fn a_statement_prepared_in_sql_is_judged_by_the_new_policy() {
    let stage = Stage::new();
    let mut psql = stage.open_psql();
    let prepare = format!("PREPARE p AS {SQL}");
    assert!(!psql.query(&prepare).expect("answer").contains("ERROR"));
    let counted = psql.query("EXECUTE p").expect("answer");
    assert_eq!(counted.trim(), "50");
    let narrower = policy_without_products(&stage);
    stage.daemon.write_policy(&narrower).expect("write");
    until_refused(&mut psql, true);
    let refused = psql.query("EXECUTE p").expect("answer");
    assert!(refused.contains("42501"), "{refused}");
    let decision = stage
        .daemon
        .audit_line("the denied EXECUTE", |line| {
            audit::is_decision(line, "EXECUTE p") && audit::text(line, "decision") == "deny"
        })
        .expect("record");
    let effects = audit::text(&decision, "effects");
    assert!(effects.contains("public.products"), "{decision}");
}

#[test]
fn sighup_reloads() {
    let mut stage = Stage::new();
    let mut psql = stage.open_psql();
    let loaded = |stage: &Stage| {
        let lines = stage.daemon.audit().expect("record");
        lines
            .iter()
            .filter(|line| audit::is(line, "policy_loaded"))
            .count()
    };
    assert!(!is_refused(&mut psql));
    let before = loaded(&stage);
    stage.daemon.signal(Signal::SIGHUP).expect("signal");
    wait::until("the reload", LIMIT, || {
        Ok((loaded(&stage) > before).then_some(()))
    })
    .expect("reload");
    assert!(!is_refused(&mut psql));
}

#[test]
fn a_broken_file_keeps_the_last_good_policy_and_says_so() {
    let mut stage = Stage::new();
    let mut psql = stage.open_psql();
    stage
        .daemon
        .write_policy("version: 1\nrulez: []\n")
        .expect("write");
    let rejected = stage
        .daemon
        .audit_line("policy_rejected", |line| audit::is(line, "policy_rejected"))
        .expect("record");
    assert!(rejected.to_string().contains("rulez"), "{rejected}");
    assert!(
        stage.daemon.log().contains("rulez"),
        "{}",
        stage.daemon.log()
    );
    assert!(!is_refused(&mut psql));
    assert!(
        psql.query("DELETE FROM customers")
            .expect("answer")
            .contains("42501")
    );
    stage.daemon.signal(Signal::SIGHUP).expect("signal");
    assert!(!is_refused(&mut psql));
    stage
        .daemon
        .write_policy(&policy_without_products(&stage))
        .expect("write");
    until_refused(&mut psql, true);
}
