//! `portcullis run` as a shell would expect it: exit codes, signals, streams, the cgroup.

use std::process::Command;
use std::time::Duration;

use portcullis_tests::process;

use crate::stage::{Stage, binaries};

#[test]
fn exit_codes_are_those_of_a_shell() {
    let stage = Stage::new();
    for (words, code) in [
        (&["sh", "-c", "exit 7"][..], 7),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["no-such-program"], 127),
        (&["/etc/passwd"], 126),
        (&["true"], 0),
    ] {
        let done = stage.agent().run(words).expect("runs");
        assert_eq!(done.code(), code, "{words:?}: {}", done.stderr);
    }
}

#[test]
fn without_a_daemon_it_ends_with_125_and_one_line() {
    let mut command = Command::new(binaries().client);
    command.args([
        "--socket",
        "/nonexistent/control.sock",
        "run",
        "--as",
        "analyst",
        "--",
    ]);
    let limit = Duration::from_secs(10);
    let done = process::run(command.args(["sh", "-c", "echo ran"]), "", limit).expect("runs");
    assert_eq!((done.code(), done.stdout.as_str()), (125, ""));
    assert_eq!(done.stderr.trim().lines().count(), 1, "{}", done.stderr);
}

#[test]
fn the_streams_are_passed_on() {
    let stage = Stage::new();
    let mut command = stage.agent().command(&["sh", "-c", "cat; echo err >&2"]);
    let done = process::run(&mut command, "in\n", Duration::from_secs(20)).expect("runs");
    assert_eq!(
        (done.stdout.as_str(), done.stderr.as_str()),
        ("in\n", "err\n")
    );
}

#[test]
fn the_command_is_in_the_sessions_cgroup_with_its_children() {
    let stage = Stage::new();
    let done = stage
        .agent()
        .run(&["sh", "-c", "cat /proc/self/cgroup"])
        .expect("runs");
    let cgroup = stage.daemon.leftovers().cgroup.expect("cgroup2");
    let name = cgroup
        .file_name()
        .and_then(|name| name.to_str())
        .expect("name")
        .to_owned();
    let line = done
        .stdout
        .lines()
        .find(|line| line.starts_with("0::"))
        .expect("v2 line");
    assert!(line.contains(&format!("/{name}/s-")), "{line}");
}

#[test]
fn status_and_sessions_answer() {
    let stage = Stage::new();
    let _psql = stage.open_psql();
    stage.assert_works();
    let limit = Duration::from_secs(10);
    let ask = |words: &[&str]| process::check(stage.daemon.client().args(words), "", limit);
    let status = ask(&["status", "--json"]).expect("status");
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert!(status.is_object(), "{status}");
    assert!(ask(&["sessions"]).expect("sessions").contains("analyst"));
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let stage = Stage::new();
    let mut command = Command::new("bash");
    // `status` writes several lines; the reader is gone before the first.
    let script = "\"$0\" --socket \"$1\" status | exec sleep 0; exit \"${PIPESTATUS[0]}\"";
    command.args(["-c", script]);
    command
        .arg(&binaries().client)
        .arg(stage.daemon.path("run/control.sock"));
    let done = process::run(&mut command, "", Duration::from_secs(20)).expect("runs");
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    assert!(
        matches!(done.code(), 0 | 141),
        "{} {}",
        done.code(),
        done.stderr
    );
}

#[test]
fn it_starts_where_and_with_what_it_is_told() {
    let stage = Stage::new();
    let run = |options: &[&str], line: &str| {
        let agent = stage.agent().env("LEFT", "over").env("KEPT", "too");
        let done = agent.with(options).run(&["sh", "-c", line]).expect("runs");
        assert_eq!(done.code(), 0, "{}", done.stderr);
        done.stdout
    };
    assert_eq!(run(&["--cwd", "/var/tmp"], "pwd"), "/var/tmp\n");
    let show = "echo \"$LEFT,$KEPT,$NEW,$PATH\"";
    let path = std::env::var("PATH").expect("PATH");
    assert_eq!(
        run(&["--env", "NEW=a=b"], show),
        format!("over,too,a=b,{path}\n")
    );
    let options = ["--clear-env", "--env", "KEPT", "--env", "NEW=x"];
    assert_eq!(run(&options, show), format!(",too,x,{path}\n"));
}

#[test]
fn only_listed_descriptors_are_left_and_a_socket_is_not_even_then() {
    let stage = Stage::new();
    let client = stage.daemon.client();
    let run = format!(
        "{} --socket {} run --as analyst",
        client.get_program().display(),
        stage.daemon.path("run/control.sock").display()
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    let ask = |line: &str| {
        let mut bash = Command::new("bash");
        process::run(bash.args(["-c", line]), "", Duration::from_secs(20)).expect("runs")
    };
    // The shell that lists is given its own descriptors for the listing.
    let open = "exec 7</dev/null 8</etc/passwd;";
    let list = "sh -c 'for n in 7 8; do [ -e /proc/self/fd/$n ] && echo $n; done; true'";
    assert_eq!(ask(&format!("{open} {run} -- {list}")).stdout, "");
    assert_eq!(
        ask(&format!("{open} {run} --keep-fd 8 -- {list}")).stdout,
        "8\n"
    );
    let socket = format!("exec 7<>/dev/tcp/127.0.0.1/{port}; {run} --keep-fd 7 -- true");
    let done = ask(&socket);
    assert!(
        done.code() == 125 && done.stderr.contains("descriptor 7"),
        "{}",
        done.both()
    );
    let done = ask(&format!("{run} --keep-fd 9 -- true"));
    assert!(
        done.code() == 125 && done.stderr.contains("not open"),
        "{}",
        done.both()
    );
}
