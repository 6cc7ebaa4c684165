//! Containers of runc: in a session, bound by the policy without any `portcullis run`, and
//! ended in the middle.
//!
//! Seen to fail: without the binding, the second; without the sweep of the version 1
//! hierarchies, the third.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;

use nix::sys::signal::Signal;
use portcullis_tests::agent::LIMIT;
use portcullis_tests::audit::{is, text};
use portcullis_tests::leftovers::{Leftovers, cgroup2_mount, pids};
use portcullis_tests::process::{self, Process};
use portcullis_tests::{shop, wait};
use serde_json::json;

use crate::stage::{Stage, cgroup_of};

/// runc, about to run a command in a container in this cgroup: the host's programs,
/// read-only, in namespaces of its own.
fn runc(bundle: &Path, cgroup: &Path, command: &[&str]) -> Command {
    let root = bundle.join("rootfs");
    for name in ["usr", "etc", "proc", "dev", "tmp"] {
        fs::create_dir_all(root.join(name)).expect("rootfs");
    }
    for name in ["bin", "lib", "lib64", "sbin"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name)).expect("rootfs");
    }
    let bind = |from: &str| {
        json!({"destination": from, "source": from, "type": "bind",
                                    "options": ["bind", "ro"]})
    };
    let kinds = ["pid", "network", "ipc", "uts", "mount"];
    let namespaces: Vec<_> = kinds.iter().map(|kind| json!({"type": kind})).collect();
    let mount = cgroup2_mount().expect("cgroup2");
    let below = cgroup.strip_prefix(&mount).expect("below the mount");
    let spec = json!({
        "ociVersion": "1.0.2",
        "process": {"terminal": false, "cwd": "/", "args": command,
                    "user": {"uid": 0, "gid": 0}, "noNewPrivileges": true,
                    "env": ["PATH=/usr/bin:/usr/sbin", "LC_ALL=C"]},
        "root": {"path": "rootfs", "readonly": false},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            bind("/usr"), bind("/etc"),
        ],
        "linux": {"namespaces": namespaces, "cgroupsPath": Path::new("/").join(below)},
    });
    fs::write(bundle.join("config.json"), spec.to_string()).expect("config.json");
    let mut runc = Command::new("runc");
    runc.arg("--root").arg(bundle.join("state"));
    runc.arg("run").arg("--bundle").arg(bundle);
    runc.arg(format!("portcullis-{}", std::process::id()));
    runc
}

/// A shell's line that asks the shop.
fn ask(stage: &Stage) -> String {
    let (port, database) = (stage.server.port(), shop::DATABASE);
    format!("psql -XAtq -h 127.0.0.1 -p {port} -d {database} -c 'SELECT count(*) FROM orders'")
}

/// It gets what the policy allows, and is refused elsewhere. The gate hears of the container
/// before that connects; should the host be too busy for it, the first connection is
/// refused, never let past.
#[track_caller]
fn assert_held(stage: &Stage, cgroup: &Path) {
    let bundle = tempfile::tempdir().expect("dir");
    let (ask, port) = (ask(stage), stage.server.port());
    let script = format!(
        "until {ask} 2>/tmp/said; do grep -q refused /tmp/said && n=$((n+1)) && [ $n -lt 100 ] || break; \
         sleep 0.1; done; \
         busybox nc -w 3 127.0.0.1 9 </dev/null; busybox nc -w 3 198.51.100.2 {port} </dev/null"
    );
    let mut runc = runc(bundle.path(), cgroup, &["sh", "-c", &script]);
    let done = process::run(&mut runc, "", LIMIT).expect("runc");
    assert!(done.stdout.starts_with("300"), "{}", done.both());
    assert_eq!(done.both().matches("refused").count(), 2, "{}", done.both());
}

/// The cgroup of a new session.
fn session(stage: &Stage) -> (portcullis_tests::agent::Shell, PathBuf) {
    let mut shell = stage.agent().shell().expect("a shell");
    shell.run("true", LIMIT).expect("it answers");
    let cgroup = cgroup_of(shell.pid());
    (shell, cgroup)
}

#[test]
fn a_container_in_a_session_is_held() {
    let stage = Stage::new();
    let (_shell, session) = session(&stage);
    assert_held(&stage, &session.join("container"));
    let decision = stage.daemon.decision("FROM orders").expect("a decision");
    assert_eq!(text(&decision, "principal"), "analyst");
}

#[test]
fn a_container_that_the_policy_binds_needs_no_launcher() {
    let stage = Stage::with(|options| {
        let bound = "analyst: {when: {cgroup: '/*/etl-*'}}";
        options.policy = options.policy.replace("analyst: {}", bound);
    });
    // As an engine makes it: nobody tells the daemon, and nobody waits for it.
    let gate = stage.daemon.leftovers().cgroup.expect("cgroup2");
    assert_held(&stage, &gate.join("etl-7"));
    let decision = stage.daemon.decision("FROM orders").expect("a decision");
    assert_eq!(text(&decision, "principal"), "analyst");
    let of_it = |line: &serde_json::Value| line["session"] == decision["session"];
    let start = stage.daemon.audit_line("the binding", |line| {
        is(line, "session_start") && of_it(line)
    });
    let start = start.expect("record");
    assert_eq!(text(&start, "proof"), "cgroup");
    assert_eq!(text(&start, "pattern"), "/*/etl-*");
    // Another container of the same daemon has no session, and gets nothing.
    let bundle = tempfile::tempdir().expect("dir");
    let web = gate.join("web-7");
    let mut other = runc(bundle.path(), &web, &["sh", "-c", &ask(&stage)]);
    let done = process::run(&mut other, "", LIMIT).expect("runc");
    assert_eq!(done.stdout, "");
    assert!(done.stderr.contains("refused"), "{}", done.stderr);
    stage
        .daemon
        .audit_line("the end", |line| {
            is(line, "session_end") && of_it(line) && text(line, "reason") == "left"
        })
        .expect("record");
}

/// The guard's own test: a container that is alive when a test fails.
#[test]
fn a_test_that_fails_beside_a_container_leaves_nothing() {
    let (send, receive) = mpsc::channel::<Leftovers>();
    let failed = std::thread::spawn(move || {
        let stage = Stage::new();
        let (_shell, session) = session(&stage);
        let cgroup = session.join("container");
        let bundle = tempfile::tempdir().expect("dir");
        let mut runc = runc(bundle.path(), &cgroup, &["sleep", "1000"]);
        let _runc = Process::spawn(&mut runc, Signal::SIGKILL).expect("runc");
        wait::until("the container", LIMIT, || {
            let found = pids(&cgroup);
            let name = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm"));
            let there = found
                .iter()
                .any(|pid| name(pid).is_ok_and(|name| name == "sleep\n"));
            Ok(there.then_some(()))
        })
        .expect("it runs");
        send.send(stage.daemon.leftovers()).expect("send");
        panic!("on purpose");
    })
    .join();
    assert!(failed.is_err());
    let left = receive.recv().expect("it came so far");
    assert_eq!(left.find(), Vec::<String>::new());
}
