//! How sessions end and nest: time, revocation, restarts, narrower ones inside.

mod ending;
mod inner;
mod socket;

use std::time::Duration;

use portcullis_tests::agent::{Agent, Shell};
use portcullis_tests::{process, shop};
use serde_json::Value;

use crate::stage::Stage;

const LIMIT: Duration = Duration::from_secs(20);

/// Two roles for `planner`, one of which reads products only.
fn with_planner() -> Stage {
    Stage::with(|options| {
        let roles = "roles:\n  analyst: {when: {as: [analyst, planner]}}\n  \
                     reader: {when: {as: [planner]}}";
        options.policy = options.policy.replace("roles:\n  analyst: {}", roles)
            + "\n  - {id: reader-products, role: reader, allow: [sql.select], on: ['shop/public.products']}\n";
        assert!(
            options.policy.contains("reader: {when"),
            "the fixture has changed"
        );
    })
}

fn portcullis(stage: &Stage, words: &[&str]) -> process::Finished {
    process::run(stage.daemon.client().args(words), "", LIMIT).expect("runs")
}

fn sessions(stage: &Stage) -> Vec<Value> {
    let listed = portcullis(stage, &["sessions", "--json"]);
    serde_json::from_str(&listed.stdout).expect("JSON")
}

/// The session of a shell.
fn session_of(stage: &Stage, shell: &mut Shell) -> String {
    // Once it answers, it is in its session.
    shell.run("true", LIMIT).expect("runs");
    let pid = shell.pid();
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("runs");
    let all = sessions(stage);
    let inner = all.iter().rev().find(|one| {
        let path = one["cgroup"].as_str().expect("a path");
        cgroup.contains(path.rsplit('/').next().expect("a name"))
    });
    inner.expect("in a session")["session"]
        .as_str()
        .expect("id")
        .to_owned()
}

/// What a session inside `planner`'s says to a command line, and its exit code.
fn inside(stage: &Stage, options: &str, line: &str) -> (String, i32) {
    let mut shell = Agent::new(&stage.daemon, "planner")
        .shell()
        .expect("a shell");
    shell
        .run(&nested(stage, options, line), LIMIT)
        .expect("answers")
}

fn nested(stage: &Stage, options: &str, line: &str) -> String {
    let client = stage.daemon.client();
    let (program, socket) = (client.get_program(), stage.daemon.path("run/control.sock"));
    format!(
        "{} --socket {} run {options} -- {line}",
        program.display(),
        socket.display()
    )
}

fn psql(stage: &Stage, sql: &str) -> String {
    let (port, database) = (stage.server.port(), shop::DATABASE);
    format!("psql -XAtq -h 127.0.0.1 -p {port} -d {database} -c '{sql}'")
}

const ATTRIBUTE: &str = "trusted.portcullis.session";

/// A shell in a session inside `planner`'s.
fn inner_shell(stage: &Stage, role: &str) -> Shell {
    let client = stage.daemon.client();
    let program = client.get_program().display().to_string();
    let socket = stage.daemon.path("run/control.sock").display().to_string();
    let words = [
        &program, "--socket", &socket, "run", "--role", role, "--", "sh",
    ];
    Agent::new(&stage.daemon, "planner")
        .shell_by(&words)
        .expect("a shell")
}

fn cgroup_of(stage: &Stage, id: &str) -> String {
    let all = sessions(stage);
    let found = all.iter().find(|one| one["session"] == id).expect("listed");
    found["cgroup"].as_str().expect("a path").to_owned()
}
