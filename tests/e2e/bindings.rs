//! Cgroups that the policy binds by their path, made by others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use portcullis_tests::audit::{is, text};
use portcullis_tests::process::{self, Finished};
use portcullis_tests::wait;

use crate::stage::Stage;

const LIMIT: Duration = Duration::from_secs(20);

/// The analyst's role goes to cgroups whose name begins with `etl-`.
fn stage() -> Stage {
    Stage::unstarted(|options| {
        options.policy = options
            .policy
            .replace("analyst: {}", "analyst: {when: {cgroup: '/*/etl-*'}}");
    })
}

fn started() -> Stage {
    let mut stage = stage();
    stage.daemon.launch().expect("starts");
    stage
}

fn cgroup(stage: &Stage, name: &str) -> PathBuf {
    let path = stage.daemon.leftovers().cgroup.expect("cgroup2").join(name);
    fs::create_dir_all(&path).expect("mkdir");
    path
}

/// Asks the shop from inside a cgroup, with nothing of ours in between.
fn psql_in(stage: &Stage, cgroup: &Path) -> Finished {
    let line = format!(
        "echo $$ > {}/cgroup.procs && exec psql -XAtq -h 127.0.0.1 -p {} -d shop \
         -c 'select count(*) from orders'",
        cgroup.display(),
        stage.server.port()
    );
    process::run(Command::new("sh").args(["-c", &line]), "", LIMIT).expect("runs")
}

fn until_bound(stage: &Stage, cgroup: &Path) {
    let name = cgroup.display().to_string();
    stage
        .daemon
        .audit_line("the binding", |line| {
            is(line, "session_start") && text(line, "cgroup") == name
        })
        .expect("record");
}

#[test]
fn a_new_cgroup_is_bound_by_its_path_and_others_get_nothing() {
    let stage = started();
    let bound = cgroup(&stage, "etl-1.service");
    until_bound(&stage, &bound);
    let done = psql_in(&stage, &bound);
    assert_eq!(
        (done.stdout.as_str(), done.code()),
        ("300\n", 0),
        "{}",
        done.stderr
    );
    let done = psql_in(&stage, &cgroup(&stage, "web-1.service"));
    assert!(
        done.stderr.contains("Connection refused"),
        "{}",
        done.both()
    );
    // Below a bound one it is the same session; a deeper one of the name is not bound.
    let done = psql_in(&stage, &cgroup(&stage, "etl-1.service/worker"));
    assert_eq!(done.stdout, "300\n", "{}", done.stderr);
    let done = psql_in(&stage, &cgroup(&stage, "web-1.service/etl-1"));
    assert!(
        done.stderr.contains("Connection refused"),
        "{}",
        done.both()
    );
    let decision = stage.daemon.decision("from orders").expect("record");
    assert_eq!(text(&decision, "principal"), "analyst");
}

#[test]
fn a_unit_that_connects_at_once_is_not_refused() {
    let stage = started();
    let mut refused = 0;
    for number in 0..50 {
        let path = cgroup(&stage, &format!("etl-{number}.service"));
        refused += u32::from(psql_in(&stage, &path).code() != 0);
    }
    assert_eq!(refused, 0, "of 50");
}

#[test]
fn one_that_was_there_before_is_bound_at_the_start_and_after_a_crash() {
    let mut stage = stage();
    let early = cgroup(&stage, "etl-0.service");
    stage.daemon.launch().expect("starts");
    until_bound(&stage, &early);
    assert_eq!(psql_in(&stage, &early).stdout, "300\n");
    stage.daemon.kill9().expect("killed");
    let late = cgroup(&stage, "etl-9.service");
    let done = psql_in(&stage, &late);
    assert!(
        done.stderr.contains("Connection refused"),
        "{}",
        done.both()
    );
    stage.daemon.launch().expect("starts again");
    until_bound(&stage, &late);
    assert_eq!(psql_in(&stage, &early).stdout, "300\n");
    assert_eq!(psql_in(&stage, &late).stdout, "300\n");
}

#[test]
fn a_policy_that_binds_it_no_more_ends_it_and_one_that_does_begins_it_anew() {
    let stage = started();
    let bound = cgroup(&stage, "etl-1.service");
    until_bound(&stage, &bound);
    let policy = fs::read_to_string(stage.daemon.policy_path()).expect("policy");
    let change = |text: &str| stage.daemon.write_policy(text).expect("write");
    let until = |what: &str, works: bool| {
        wait::until(what, LIMIT, || {
            Ok(((psql_in(&stage, &bound).code() == 0) == works).then_some(()))
        })
        .expect(what)
    };
    change(&policy.replace("/*/etl-*", "/*/other-*"));
    until("the end", false);
    let ended = stage
        .daemon
        .audit_line("the end", |line| is(line, "session_end"));
    assert_eq!(text(&ended.expect("record"), "reason"), "unbound");
    change(&policy);
    until("a new session", true);
    // Whoever made the cgroup removes it: ours it never was.
    fs::remove_dir(&bound).expect("rmdir");
    stage
        .daemon
        .audit_line("the last end", |line| {
            is(line, "session_end") && text(line, "reason") == "left"
        })
        .expect("record");
}

#[test]
fn a_unit_that_is_restarted_at_once_leaves_no_session_behind() {
    let stage = started();
    let path = cgroup(&stage, "etl-1.service");
    until_bound(&stage, &path);
    for _ in 0..30 {
        fs::remove_dir(&path).expect("rmdir");
        fs::create_dir(&path).expect("mkdir");
        assert_eq!(psql_in(&stage, &path).stdout, "300\n");
        wait::until("the cgroup to be empty", LIMIT, || {
            Ok(fs::read_to_string(path.join("cgroup.procs"))?
                .is_empty()
                .then_some(()))
        })
        .expect("empty");
    }
    let listed = || {
        let mut command = stage.daemon.client();
        let listed = process::run(command.args(["sessions", "--json"]), "", LIMIT)?;
        let all: Vec<serde_json::Value> = serde_json::from_str(&listed.stdout)?;
        Ok((all.len() == 1).then_some(()))
    };
    wait::until("one session", LIMIT, listed).expect("one");
    wait::until("the record of each end", LIMIT, || {
        let lines = stage.daemon.audit()?;
        let count = |event| lines.iter().filter(|line| is(line, event)).count();
        Ok((count("session_start") == count("session_end") + 1).then_some(()))
    })
    .expect("as many ends as starts but one");
    assert_eq!(psql_in(&stage, &path).stdout, "300\n");
}

#[test]
fn a_policy_that_changed_while_the_daemon_was_dead_counts_from_ready_on() {
    let mut stage = started();
    let bound = cgroup(&stage, "etl-1.service");
    until_bound(&stage, &bound);
    assert_eq!(psql_in(&stage, &bound).stdout, "300\n");
    let policy = fs::read_to_string(stage.daemon.policy_path()).expect("policy");
    stage.daemon.kill9().expect("killed");
    let closer = "roles:\n  nobody: {when: {cgroup: '/*/etl-1*'}}";
    stage
        .daemon
        .write_policy(&policy.replace("roles:", closer))
        .expect("write");
    stage.daemon.launch().expect("starts again");
    let done = psql_in(&stage, &bound);
    assert_ne!(done.code(), 0, "{}", done.both());
}
