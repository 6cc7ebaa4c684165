//! Who may ask for a session, as which user, and how the daemon tells its kinds apart.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use portcullis_tests::agent::Agent;
use portcullis_tests::process::{self, Process};
use portcullis_tests::wait;

use super::{LIMIT, POLICY, PYTHON, daemon};
use crate::stage::Stage;

#[test]
fn a_user_of_roots_choice() {
    let daemon = daemon(POLICY);
    let run = |words: &[&str]| {
        let mut command = daemon.client();
        command.args(["run", "--as", "analyst"]).args(words);
        process::run(
            command.env("SSH_AUTH_SOCK", "/x").current_dir("/"),
            "",
            LIMIT,
        )
        .expect("runs")
    };
    let script =
        "id -u; id -G; echo $HOME $USER ${SSH_AUTH_SOCK:-none}; grep Groups /proc/self/status";
    let done = run(&["--user", "nobody", "--", "sh", "-c", script]);
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(
        lines[..3],
        ["65534", "65534", "/nonexistent nobody none"],
        "{}",
        done.both()
    );
    // nogroup is the control socket's group here: root takes it from the agent.
    assert_eq!(lines[3].trim(), "Groups:", "{}", done.stdout);
    let done = run(&["--user", "no-such-user", "--", "true"]);
    assert_eq!(done.code(), 125, "{}", done.both());
    let mut command = Agent::new(&daemon, "analyst")
        .as_nobody()
        .command(&["true"]);
    let mut other = Command::new(command.get_program());
    let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let (before, after) = words.split_at(words.iter().position(|word| word == "--").expect("--"));
    other
        .args(before)
        .args(["--user", "daemon"])
        .args(after)
        .uid(65534)
        .gid(65534);
    let done = process::run(&mut other, "", LIMIT).expect("runs");
    assert_eq!(done.code(), 125);
    assert!(done.stderr.contains("root"), "{}", done.stderr);
    assert_eq!(
        process::run(&mut command, "", LIMIT).expect("runs").code(),
        0
    );
}

#[test]
fn a_member_of_a_helpers_group_is_refused_unless_it_says_so() {
    let daemon = daemon(POLICY);
    let disk = nix::unistd::Group::from_name("disk")
        .expect("groups")
        .expect("disk")
        .gid;
    let run = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        let groups = format!("--groups=65534,{disk}");
        command.args(["--reuid=65534", "--regid=65534", &groups, "--"]);
        let client = daemon.client();
        command.arg(client.get_program()).args(client.get_args());
        command
            .args(["run", "--as", "analyst"])
            .args(words)
            .args(["--", "true"]);
        process::run(command.current_dir("/"), "", LIMIT).expect("runs")
    };
    let done = run(&[]);
    assert_eq!(done.code(), 125, "{}", done.both());
    assert!(done.stderr.contains("group disk"), "{}", done.stderr);
    assert_eq!(run(&["--keep-groups"]).code(), 0);
}

#[test]
fn status_tells_sessions_of_the_launcher_from_others() {
    let stage = Stage::new();
    let _psql = stage.open_psql();
    // A caller that asks for a session and confines itself in nothing.
    let script = "import http.client, json, socket, sys, time
c = http.client.HTTPConnection('portcullis')
c.sock = socket.socket(socket.AF_UNIX)
c.sock.connect(sys.argv[1])
c.request('POST', '/v1/sessions', json.dumps({'who': {'as': 'analyst'}}), {'Content-Type': 'application/json'})
print(c.getresponse().status, flush=True)
time.sleep(60)
";
    let mut command = Command::new(PYTHON);
    command
        .args(["-c", script])
        .arg(stage.daemon.path("run/control.sock"));
    let mut other = Process::spawn(command.stdout(Stdio::null()), Signal::SIGKILL).expect("python");
    let pid = other.pid();
    let sessions = || {
        let text = process::check(stage.daemon.client().args(["status", "--json"]), "", LIMIT)?;
        let status: serde_json::Value = serde_json::from_str(&text)?;
        let sessions = status["session_layers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        assert!(other.ended()?.is_none(), "python ended");
        let launchers: Vec<_> = sessions
            .iter()
            .map(|one| one["launcher"].as_bool())
            .collect();
        assert_eq!(status["degraded"][0]["layer"], "lsm");
        Ok((launchers == [Some(true), Some(false)]).then_some(()))
    };
    wait::until("one session of each kind", LIMIT, sessions).expect("status");
    let text = process::check(stage.daemon.client().arg("status"), "", LIMIT).expect("status");
    assert!(
        text.contains("launcher: yes") && text.contains("launcher: NO"),
        "{text}"
    );
    assert!(text.contains("degraded   without lsm"), "{text}");
    assert!(pid > 0);
}

#[test]
fn who_asks_must_still_live() {
    let daemon = daemon(POLICY);
    // The child connects and ends; its pid could be anybody's by the time the parent asks.
    let script = "import os, socket, sys
s = socket.socket(socket.AF_UNIX)
if os.fork() == 0:
    s.connect(sys.argv[1])
    os._exit(0)
os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
s.sendall(b'GET /v1/sessions HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n')
print(s.makefile().read())
";
    let mut command = Command::new(PYTHON);
    command
        .args(["-c", script])
        .arg(daemon.path("run/control.sock"));
    let done = process::run(&mut command, "", LIMIT).expect("runs");
    assert!(
        done.stdout.contains("403") && done.stdout.contains("has ended"),
        "{}",
        done.both()
    );
}
