//! Start, stop, crash, restart, release; two daemons; no root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use portcullis_tests::audit;
use portcullis_tests::leftovers;
use portcullis_tests::process;

use crate::stage::{AT_ONCE, Stage, binaries};

const LIMIT: Duration = Duration::from_secs(30);

fn select(stage: &Stage) -> String {
    let port = stage.server.port();
    format!("psql -XAtq -h 127.0.0.1 -p {port} -d shop -c 'SELECT count(*) FROM orders'")
}

#[test]
fn ready_is_said_in_the_log_and_the_record() {
    let stage = Stage::new();
    assert!(
        stage
            .daemon
            .log()
            .lines()
            .any(|line| line.contains("ready")),
        "{}",
        stage.daemon.log()
    );
    let started = |line: &serde_json::Value| audit::is(line, "daemon_start");
    stage
        .daemon
        .audit_line("daemon_start", started)
        .expect("record");
}

#[test]
fn a_killed_daemon_leaves_the_gate_shut_and_a_restart_opens_it_for_the_same_session() {
    let mut stage = Stage::new();
    let mut shell = stage.agent().shell().expect("shell");
    let line = select(&stage);
    assert_eq!(shell.run(&line, LIMIT).expect("runs"), ("300\n".into(), 0));

    stage.daemon.kill9().expect("kill");
    let start = Instant::now();
    let (output, code) = shell.run(&line, LIMIT).expect("runs");
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
    assert!(code != 0 && output.contains("refused"), "{code}: {output}");

    stage.daemon.launch().expect("starts again");
    assert_eq!(shell.run(&line, LIMIT).expect("runs"), ("300\n".into(), 0));
    assert_eq!(
        audit::text(
            &stage.daemon.decision("FROM orders").expect("record"),
            "principal"
        ),
        "analyst"
    );
}

#[test]
fn a_live_connection_ends_when_the_daemon_is_killed() {
    let mut stage = Stage::new();
    let mut psql = stage.open_psql();
    assert_eq!(psql.query("SELECT 1").expect("works").trim(), "1");
    stage.daemon.kill9().expect("kill");
    let answer = match psql.query("SELECT 2") {
        Ok(answer) => answer,
        Err(error) => format!("{error:#}"),
    };
    assert!(answer.contains("connection"), "{answer}");
}

#[test]
fn sigterm_drains_and_the_gate_stays_shut() {
    let mut stage = Stage::new();
    let mut shell = stage.agent().shell().expect("shell");
    let line = select(&stage);
    assert_eq!(shell.run(&line, LIMIT).expect("runs").1, 0);
    stage.daemon.stop().expect("ends with 0");
    let stopped = |line: &serde_json::Value| audit::is(line, "daemon_stop");
    stage
        .daemon
        .audit_line("daemon_stop", stopped)
        .expect("record");
    let (output, code) = shell.run(&line, LIMIT).expect("runs");
    assert!(code != 0 && output.contains("refused"), "{code}: {output}");
}

#[test]
fn a_second_daemon_names_the_holder_and_ends() {
    let stage = Stage::new();
    let pid = stage.daemon.pid().expect("runs").to_string();
    let done = stage.daemon.run_to_end(&[]).expect("ends");
    assert_eq!(done.code(), 1);
    let line = one_line(&done.stderr);
    assert!(line.contains(&pid), "{line}");
    stage.assert_works();
}

#[test]
fn release_leaves_nothing() {
    let mut stage = Stage::new();
    stage.assert_works();
    assert!(
        !stage.daemon.leftovers().find().is_empty(),
        "nothing was there before"
    );
    stage.daemon.release().expect("releases");
    assert_eq!(stage.daemon.leftovers().find(), Vec::<String>::new());
}

#[test]
fn release_works_after_a_crash_too() {
    let mut stage = Stage::new();
    stage.daemon.kill9().expect("kill");
    stage.daemon.release().expect("releases");
    assert_eq!(stage.daemon.leftovers().find(), Vec::<String>::new());
}

#[test]
fn without_root_it_says_so_in_one_line() {
    let dir = tempfile::tempdir().expect("dir");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    // The build directory may be closed to others.
    let daemon = dir.path().join("portcullisd");
    fs::copy(binaries().daemon, &daemon).expect("copy");
    let config = dir.path().join("portcullisd.yaml");
    fs::write(&config, "policies: /nonexistent\n").expect("config");
    let mut command = Command::new(&daemon);
    command.arg("--config").arg(&config).uid(65534).gid(65534);
    let done = process::run(&mut command, "", LIMIT).expect("ends");
    assert_eq!(done.code(), 1, "{}", done.both());
    let line = one_line(&done.stderr);
    assert!(line.contains("root"), "{line}");
}

/// What the daemon says in a mount namespace where `spoil` has run with `$1` = `path`.
fn without(spoil: &str, path: &str) -> String {
    let stage = Stage::unstarted(|_| ());
    let script = format!("{spoil}; shift; exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", &script, "sh"]);
    command
        .arg(path)
        .arg(binaries().daemon)
        .arg("--config")
        .arg(stage.daemon.config());
    let done = process::run(&mut command, "", LIMIT).expect("ends");
    assert_eq!(done.code(), 1, "{}", done.both());
    one_line(&done.stderr).to_owned()
}

#[test]
fn without_cgroup2_it_says_so_in_one_line() {
    let mount = leftovers::cgroup2_mount().expect("cgroup2 is mounted");
    let mount = mount.to_str().expect("UTF-8");
    let line = without("umount -l \"$1\"", mount);
    assert!(line.contains("mount -t cgroup2"), "{line}");
}

#[test]
fn without_btf_it_says_so_in_one_line() {
    let line = without("mount -t tmpfs none \"$1\"", "/sys/kernel/btf");
    assert!(line.contains("CONFIG_DEBUG_INFO_BTF"), "{line}");
}

#[test]
fn an_agents_signal_does_not_reach_the_daemon() {
    let mut stage = Stage::new();
    stage.daemon.signal(Signal::SIGPIPE).expect("signal");
    let done = stage
        .agent()
        .run(&["sh", "-c", "kill -INT $$"])
        .expect("runs");
    assert_eq!(done.code(), 130);
    stage.assert_works();
}

/// The only line that the daemon said as its reason to end.
fn one_line(stderr: &str) -> &str {
    let mut lines = stderr
        .lines()
        .filter(|line| line.starts_with("portcullisd: "));
    let line = lines
        .next()
        .unwrap_or_else(|| panic!("no line `portcullisd: ...` in: {stderr}"));
    assert_eq!(lines.next(), None, "{stderr}");
    line
}
