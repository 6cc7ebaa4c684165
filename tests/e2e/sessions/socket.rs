//! The agents' socket: whom it answers, what it records, and that nobody takes it from others.

use std::time::{Duration, Instant};

use portcullis_tests::agent::Agent;
use portcullis_tests::audit::{is, text};
use portcullis_tests::{process, wait};
use serde_json::Value;

use super::{
    ATTRIBUTE, LIMIT, cgroup_of, inner_shell, inside, nested, portcullis, session_of, sessions,
    with_planner,
};
use crate::stage::Stage;

#[test]
fn the_agents_socket_tells_outsiders_nothing_and_insiders_who_they_are() {
    let stage = with_planner();
    let done = portcullis(&stage, &["whoami"]);
    assert!(
        done.code() == 1 && done.stderr.contains("in no agent session"),
        "{}",
        done.both()
    );
    let client = stage.daemon.client();
    let (program, socket) = (client.get_program(), stage.daemon.path("run/control.sock"));
    let ask = format!("{} --socket {} whoami", program.display(), socket.display());
    let agent = Agent::new(&stage.daemon, "planner");
    let done = agent.run(&["sh", "-c", &ask]).expect("runs");
    assert!(
        done.code() == 0 && done.stdout.contains("planner"),
        "{}",
        done.both()
    );
    assert!(done.stdout.contains("analyst, reader"), "{}", done.stdout);
}

/// Holds connections to the agents' socket open and says nothing on them.
const HOLD: &str = "import socket, sys, time
held = []
for _ in range(int(sys.argv[2])):
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    held.append(s)
print('held', flush=True)
time.sleep(30)
";

#[test]
fn who_holds_the_agents_socket_takes_it_from_nobody_else() {
    let stage = with_planner();
    let client = stage.daemon.client();
    let (program, control) = (client.get_program(), stage.daemon.path("run/control.sock"));
    let ask = format!(
        "{} --socket {} whoami",
        program.display(),
        control.display()
    );
    let mut victim = Agent::new(&stage.daemon, "planner")
        .shell()
        .expect("a shell");
    assert_eq!(victim.run(&ask, LIMIT).expect("runs").1, 0);
    let agents = stage
        .daemon
        .path("run-agents/agent.sock")
        .display()
        .to_string();
    let mut outside = std::process::Command::new("python3");
    outside.args(["-c", HOLD, &agents, "100"]);
    let mut inside =
        Agent::new(&stage.daemon, "planner").command(&["python3", "-c", HOLD, &agents, "100"]);
    for (who, command) in [("outside", &mut outside), ("inside", &mut inside)] {
        let output = tempfile::NamedTempFile::new().expect("a file");
        command.stdout(output.reopen().expect("a file"));
        let _holder = process::Process::spawn(command, nix::sys::signal::Signal::SIGKILL);
        wait::until("connections to be held", LIMIT, || {
            Ok(std::fs::read_to_string(output.path())?
                .contains("held")
                .then_some(()))
        })
        .expect("held");
        let start = Instant::now();
        let (said, code) = victim.run(&ask, LIMIT).expect("runs");
        assert_eq!(code, 0, "{said}");
        // Below the five seconds after which those who say nothing are shown out.
        assert!(
            start.elapsed() < Duration::from_secs(3),
            "{who}: {:?}",
            start.elapsed()
        );
    }
}

/// Asks for wider roles, again and again.
const PROBE: &str = "import http.client, json, socket, sys
for _ in range(100):
    c = http.client.HTTPConnection('portcullis')
    c.sock = socket.socket(socket.AF_UNIX)
    c.sock.connect(sys.argv[1])
    c.request('POST', '/v1/self/sessions', json.dumps({'roles': ['root']}), {'Content-Type': 'application/json'})
    assert c.getresponse().status == 403
";

#[test]
fn refused_narrowing_is_recorded_and_a_flood_of_it_counted() {
    let stage = with_planner();
    let agents = stage
        .daemon
        .path("run-agents/agent.sock")
        .display()
        .to_string();
    let agent = Agent::new(&stage.daemon, "planner");
    let done = agent.run(&["python3", "-c", PROBE, &agents]).expect("runs");
    assert_eq!(done.code(), 0, "{}", done.both());
    let refused = |line: &Value| is(line, "session_refused");
    let first = stage
        .daemon
        .audit_line("the refusal", refused)
        .expect("record");
    assert!(text(&first, "reason").contains("never wider"), "{first}");
    assert_eq!(text(&first, "principal"), "planner");
    let seen = || {
        let lines = stage.daemon.audit()?;
        let lines: Vec<&Value> = lines.iter().filter(|line| refused(line)).collect();
        let dropped: u64 = lines
            .iter()
            .filter_map(|line| line["dropped"].as_u64())
            .sum();
        let counted =
            dropped + u64::try_from(lines.iter().filter(|line| line["uid"].is_u64()).count())?;
        Ok((counted == 100 && lines.len() < 70).then_some(()))
    };
    wait::until("all 100 to be counted", LIMIT, seen).expect("counted");
}

#[test]
fn sessions_inside_sessions_leave_half_of_the_limit_to_others() {
    let stage = Stage::with(|options| {
        let roles = "roles:\n  analyst: {when: {as: [analyst, planner]}}";
        options.policy = options.policy.replace("roles:\n  analyst: {}", roles);
        options.limits = "{sessions: 6}".into();
    });
    let mut shell = Agent::new(&stage.daemon, "planner")
        .shell()
        .expect("a shell");
    let line = nested(&stage, "--role analyst", "sleep 60");
    for number in 2..5 {
        let start = format!("{line} </dev/null >/dev/null 2>&1 &");
        shell.run(&start, LIMIT).expect("starts");
        wait::until("one more session", LIMIT, || {
            Ok((sessions(&stage).len() == number).then_some(()))
        })
        .expect("started");
    }
    let (said, code) = shell.run(&line, LIMIT).expect("answers");
    assert!(
        code == 125 && said.contains("half of limits.sessions"),
        "{said}"
    );
    stage.assert_works();
}

#[test]
fn a_refusal_repeats_little_of_what_was_asked() {
    let stage = with_planner();
    let role = "r".repeat(10_000);
    let (said, code) = inside(&stage, &format!("--role {role}"), "true");
    assert_eq!(code, 125, "{said}");
    let line = stage
        .daemon
        .audit_line("the refusal", |line| is(line, "session_refused"));
    let line = line.expect("record").to_string();
    assert!(line.len() < 2_000, "{} bytes", line.len());
}

#[test]
fn who_is_in_no_session_fills_no_record_whatever_his_users_are() {
    let stage = Stage::with(|options| options.for_nobody = true);
    let agents = stage
        .daemon
        .path("run-agents/agent.sock")
        .display()
        .to_string();
    for user in ["0", "65534", "1"] {
        let mut command = std::process::Command::new("setpriv");
        let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
        command.args([
            &uid,
            &gid,
            "--clear-groups",
            "/usr/bin/python3",
            "-c",
            PROBE,
            &agents,
        ]);
        let done = process::run(&mut command, "", LIMIT).expect("runs");
        assert_eq!(done.code(), 0, "{}", done.both());
    }
    let seen = || {
        let lines = stage.daemon.audit()?;
        let lines: Vec<&Value> = lines
            .iter()
            .filter(|line| is(line, "session_refused"))
            .collect();
        let dropped: u64 = lines
            .iter()
            .filter_map(|line| line["dropped"].as_u64())
            .sum();
        let written = lines.iter().filter(|line| line["uid"].is_u64()).count();
        Ok((dropped + u64::try_from(written)? == 300).then_some(written))
    };
    // As many a second for all of them together.
    let written = wait::until("all to be counted", LIMIT, seen).expect("counted");
    assert!(written <= 20 * 4, "{written} lines");
}

#[test]
fn a_shut_cgroup_inside_a_session_is_given_no_narrower_one() {
    let mut stage = with_planner();
    let mut inner = inner_shell(&stage, "reader");
    let id = session_of(&stage, &mut inner);
    let cgroup = cgroup_of(&stage, &id);
    stage.daemon.kill9().expect("killed");
    xattr::remove(&cgroup, ATTRIBUTE).expect("removexattr");
    stage.daemon.launch().expect("starts again");
    // By an agent that reaches the socket all the same, as one does without unix hooks.
    let socket = stage.daemon.path("run-agents/agent.sock");
    let pid = inner.pid();
    let listed = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("runs");
    assert!(listed.contains(&id), "{listed}");
    let done = std::process::Command::new("python3")
        .args(["-c", ASK_FROM, &socket.display().to_string(), &cgroup])
        .output()
        .expect("python");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        said.starts_with("403"),
        "{said} {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// Connects from outside, enters a cgroup, and only then asks: no unix hook is asked again.
const ASK_FROM: &str = "import http.client, json, os, socket, sys
c = http.client.HTTPConnection('portcullis')
c.sock = socket.socket(socket.AF_UNIX)
c.sock.connect(sys.argv[1])
open(sys.argv[2] + '/cgroup.procs', 'w').write(str(os.getpid()))
c.request('POST', '/v1/self/sessions', json.dumps({'roles': ['analyst']}), {'Content-Type': 'application/json'})
r = c.getresponse()
print(r.status, r.read())
";
