//! How sessions end and nest: time, revocation, restarts, narrower ones inside.

use std::time::{Duration, Instant};

use portcullis_tests::agent::{Agent, Shell};
use portcullis_tests::audit::{is, text};
use portcullis_tests::{process, shop, wait};
use serde_json::Value;

use crate::stage::{AT_ONCE, Stage};

/// Expiry and revocation count within a second; the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(5);
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

/// The analyst may sleep.
fn with_sleep() -> Stage {
    Stage::with(|options| {
        options.policy += "\n  - {id: naps, role: analyst, allow: [sql.call], \
                           on: ['shop/pg_catalog.pg_sleep']}\n";
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

#[test]
fn when_its_time_is_up_a_live_connection_is_cut_and_new_ones_are_refused() {
    let stage = with_sleep();
    let agent = stage.agent().with(&["--for", "2s"]);
    let start = Instant::now();
    let mut shell = agent.shell().expect("a shell");
    let query = format!(
        "psql -XAtq -h 127.0.0.1 -p {} -d shop -c 'select pg_sleep(20)'",
        stage.server.port()
    );
    let (said, code) = shell.run(&query, LIMIT).expect("psql");
    assert!(
        start.elapsed() < Duration::from_secs(2) + SOON,
        "{:?}",
        start.elapsed()
    );
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("the agent session has ended"), "{said}");
    let start = Instant::now();
    let (said, code) = shell.run(&query, LIMIT).expect("psql");
    assert!(code != 0 && said.contains("Connection refused"), "{said}");
    assert!(start.elapsed() < AT_ONCE);
    let ended = stage
        .daemon
        .audit_line("the end", |line| is(line, "session_end"));
    assert_eq!(text(&ended.expect("record"), "reason"), "expired");
    stage
        .daemon
        .audit_line("the refusal of the ended session", |line| {
            is(line, "gate_refused") && text(line, "reason") == "its session has ended"
        })
        .expect("record");
    assert_eq!(sessions(&stage)[0]["ended"], "expired");
}

#[test]
fn revoking_cuts_a_running_query_and_stops_it_on_the_server() {
    let stage = with_sleep();
    let mut shell = stage.agent().shell().expect("a shell");
    let id = session_of(&stage, &mut shell);
    let query = format!(
        "psql -XAtq -h 127.0.0.1 -p {} -d shop -c 'select count(*), pg_sleep(60) from orders'",
        stage.server.port()
    );
    let running = "SELECT count(*) FROM pg_stat_activity \
                   WHERE query LIKE '%pg_sleep(60) from orders' AND state = 'active' AND pid <> pg_backend_pid()";
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| shell.run(&query, LIMIT).expect("psql"));
        wait::until("the query to run", LIMIT, || {
            Ok((stage.fact(running) == "1").then_some(()))
        })
        .expect("runs");
        let start = Instant::now();
        let done = portcullis(&stage, &["revoke", &id]);
        assert_eq!(done.code(), 0, "{}", done.both());
        let (said, code) = asked.join().expect("answers");
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        assert!(
            code != 0 && said.contains("the agent session has ended"),
            "{said}"
        );
        wait::until("the query to stop", SOON, || {
            Ok((stage.fact(running) == "0").then_some(()))
        })
        .expect("stops");
    });
    let ended = stage
        .daemon
        .audit_line("the end", |line| is(line, "session_end"));
    let ended = ended.expect("record");
    assert_eq!(
        (text(&ended, "reason"), &ended["by_uid"]),
        ("revoked".to_owned(), &Value::from(0))
    );
}

#[test]
fn a_restart_does_not_undo_an_end() {
    let mut stage = Stage::new();
    let mut revoked = stage.agent().shell().expect("a shell");
    let mut living = stage.agent().shell().expect("a shell");
    let id = session_of(&stage, &mut revoked);
    assert_eq!(portcullis(&stage, &["revoke", &id]).code(), 0);
    stage.daemon.kill9().expect("killed");
    stage.daemon.launch().expect("starts again");
    let query = format!(
        "psql -XAtq -h 127.0.0.1 -p {} -d shop -c 'select count(*) from orders'",
        stage.server.port()
    );
    let (said, code) = revoked.run(&query, LIMIT).expect("psql");
    assert!(code != 0 && said.contains("Connection refused"), "{said}");
    assert_eq!(
        living.run(&query, LIMIT).expect("psql"),
        ("300\n".into(), 0)
    );
    let again = portcullis(&stage, &["renew", &id, "--token-env", "HOME"]);
    assert_ne!(again.code(), 0, "{}", again.both());
}

#[test]
fn kill_ends_the_processes_too() {
    let stage = Stage::new();
    let mut shell = stage.agent().shell().expect("a shell");
    let id = session_of(&stage, &mut shell);
    assert_eq!(portcullis(&stage, &["revoke", "--kill", &id]).code(), 0);
    shell.run("true", LIMIT).expect_err("it was killed");
    wait::until("the session to go", LIMIT, || {
        Ok(sessions(&stage).is_empty().then_some(()))
    })
    .expect("gone");
    let done = portcullis(&stage, &["revoke", &id]);
    assert!(
        done.code() == 1 && done.stderr.contains(&id),
        "{}",
        done.both()
    );
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

#[test]
fn a_session_inside_a_session_has_the_roles_it_was_given_and_no_others() {
    let stage = with_planner();
    let products = psql(&stage, "select count(*) from products");
    let orders = psql(&stage, "select count(*) from orders");
    let (said, code) = inside(&stage, "--role reader", &products);
    assert_eq!((said.as_str(), code), ("50\n", 0));
    let (said, code) = inside(&stage, "--role reader", &orders);
    assert!(
        code != 0 && said.contains("no rule of role reader"),
        "{said}"
    );
    assert_eq!(
        inside(&stage, "--role analyst", &orders),
        ("300\n".into(), 0)
    );
    let decision = stage.daemon.decision("from orders").expect("record");
    let chain = decision["chain"].as_array().expect("a chain");
    assert_eq!(chain.len(), 1, "{decision}");
    assert_eq!(text(&decision, "principal"), "planner");
}

#[test]
fn a_session_inside_a_session_is_never_wider_or_longer() {
    let stage = with_planner();
    let (said, code) = inside(&stage, "--role nobody-has-this", "true");
    assert!(code == 125 && said.contains("never wider"), "{said}");
    // The narrower one asks for what only the outer one has.
    let again = nested(&stage, "--role analyst", "true");
    let (said, code) = inside(&stage, "--role reader", &again);
    assert!(code == 125 && said.contains("never wider"), "{said}");
    // By name, from inside: the control socket is not for agents.
    let (said, code) = inside(&stage, "--as analyst", "true");
    assert_eq!(code, 125, "{said}");
    let mut shell = Agent::new(&stage.daemon, "planner")
        .with(&["--for", "1h"])
        .shell()
        .expect("a shell");
    let (said, code) = shell
        .run(
            &nested(&stage, "--role reader --for 9h", "sleep 0.1"),
            LIMIT,
        )
        .expect("answers");
    assert_eq!(code, 0, "{said}");
    let starts: Vec<Value> = stage.daemon.audit().expect("record");
    let mut ends = starts.iter().rev().filter(|line| is(line, "session_start"));
    let (inner, outer) = (ends.next().expect("inner"), ends.next().expect("outer"));
    assert_eq!(inner["expires"], outer["expires"], "{inner} {outer}");
    assert!(inner["expires"].is_string() && inner["chain"].is_array());
}

#[test]
fn sessions_nest_four_deep_and_no_deeper() {
    let stage = with_planner();
    let mut line = "echo bottom".to_owned();
    for _ in 0..4 {
        line = nested(&stage, "--role reader", &line);
    }
    let (said, code) = inside(&stage, "--role reader", &line);
    assert!(code == 125 && said.contains("deep"), "{said}");
    let mut line = "echo bottom".to_owned();
    for _ in 0..3 {
        line = nested(&stage, "--role reader", &line);
    }
    assert_eq!(
        inside(&stage, "--role reader", &line),
        ("bottom\n".into(), 0)
    );
}

#[test]
fn an_ended_inner_session_does_not_fall_back_to_the_outer_one() {
    let stage = with_planner();
    let query = psql(&stage, "select count(*) from orders");
    let mut outer = Agent::new(&stage.daemon, "planner")
        .shell()
        .expect("a shell");
    let line = nested(
        &stage,
        "--role analyst --for 1s",
        "sh -c 'sleep 3; exec 2>&1; ",
    );
    let (said, code) = outer
        .run(&format!("{line} {}'", query.replace('\'', "\"")), LIMIT)
        .expect("answers");
    assert!(code != 0 && said.contains("Connection refused"), "{said}");
    assert_eq!(outer.run(&query, LIMIT).expect("psql"), ("300\n".into(), 0));
}

#[test]
fn what_is_inside_ends_with_the_outer_session() {
    let stage = with_planner();
    let mut shell = Agent::new(&stage.daemon, "planner")
        .shell()
        .expect("a shell");
    let outer = session_of(&stage, &mut shell);
    let line = nested(&stage, "--role reader", "sleep 60");
    let (_, code) = shell
        .run(&format!("{line} </dev/null >/dev/null 2>&1 &"), LIMIT)
        .expect("starts");
    assert_eq!(code, 0);
    wait::until("two sessions", LIMIT, || {
        Ok((sessions(&stage).len() == 2).then_some(()))
    })
    .expect("two");
    assert_eq!(portcullis(&stage, &["revoke", &outer]).code(), 0);
    let ends: Vec<Value> = sessions(&stage)
        .iter()
        .map(|one| one["ended"].clone())
        .collect();
    assert_eq!(ends, ["revoked", "outer_ended"]);
}

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

#[test]
fn an_inner_session_cannot_reach_into_the_outer_ones_processes_or_cgroup() {
    let stage = with_planner();
    let mut outer = Agent::new(&stage.daemon, "planner")
        .shell()
        .expect("a shell");
    outer.run("true", LIMIT).expect("runs");
    let pid = outer.pid();
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroup");
    let path = cgroup
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .expect("v2");
    let root = portcullis_tests::leftovers::cgroup2_mount().expect("cgroup2");
    for (attempt, fails) in [
        (format!("head -c 1 /proc/{pid}/mem"), true),
        (format!("cat /proc/{pid}/environ"), true),
        (format!("ls -l /proc/{pid}/fd/0"), true),
        (
            format!("sh -c 'echo $$ > {}{path}/cgroup.procs'", root.display()),
            true,
        ),
        // The attempts can succeed: on a process of its own.
        ("sh -c 'cat /proc/$$/environ > /dev/null'".to_owned(), false),
    ] {
        let line = nested(&stage, "--role reader", &attempt);
        let (said, code) = outer.run(&line, LIMIT).expect("answers");
        assert_eq!(code != 0, fails, "{attempt}: {said}");
    }
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

#[test]
fn an_inner_session_whose_identity_is_lost_gets_nothing_after_a_restart() {
    for lost in [Some(&b"{}"[..]), None] {
        let mut stage = with_planner();
        let mut inner = inner_shell(&stage, "reader");
        let products = psql(&stage, "select count(*) from products");
        assert_eq!(inner.run(&products, LIMIT).expect("psql").0, "50\n");
        let id = session_of(&stage, &mut inner);
        let cgroup = cgroup_of(&stage, &id);
        stage.daemon.kill9().expect("killed");
        match lost {
            Some(value) => xattr::set(&cgroup, ATTRIBUTE, value).expect("setxattr"),
            None => xattr::remove(&cgroup, ATTRIBUTE).expect("removexattr"),
        }
        stage.daemon.launch().expect("starts again");
        let orders = psql(&stage, "select count(*) from orders");
        for query in [&products, &orders] {
            let (said, code) = inner.run(query, LIMIT).expect("psql");
            assert!(code != 0 && said.contains("Connection refused"), "{said}");
        }
    }
}

#[test]
fn an_end_that_could_not_be_written_down_still_counts_after_a_restart() {
    let mut stage = Stage::new();
    let mut shell = stage.agent().shell().expect("a shell");
    let id = session_of(&stage, &mut shell);
    let cgroup = cgroup_of(&stage, &id);
    let before = xattr::get(&cgroup, ATTRIBUTE)
        .expect("getxattr")
        .expect("is there");
    assert_eq!(portcullis(&stage, &["revoke", &id]).code(), 0);
    stage.daemon.kill9().expect("killed");
    xattr::set(&cgroup, ATTRIBUTE, &before).expect("setxattr");
    stage.daemon.launch().expect("starts again");
    let query = psql(&stage, "select count(*) from orders");
    let (said, code) = shell.run(&query, LIMIT).expect("psql");
    assert!(code != 0 && said.contains("Connection refused"), "{said}");
}

#[test]
fn a_start_that_fails_half_way_leaves_nothing() {
    let stage = Stage::with(|options| {
        // More than the kernel's list of all sessions holds.
        let names: String = (0..17_000).map(|n| format!("/run/h/{n},")).collect();
        let role = format!("analyst: {{unix_sockets: [{names}]}}");
        options.policy = options.policy.replace("analyst: {}", &role);
    });
    let done = stage.agent().run(&["true"]).expect("runs");
    assert_eq!(done.code(), 125, "{}", done.both());
    let enforced = stage.daemon.leftovers().cgroup.expect("cgroup2");
    let left = || {
        let entries = std::fs::read_dir(&enforced)?.flatten();
        let cgroups = entries.filter(|entry| entry.path().is_dir()).count();
        Ok((cgroups == 0 && sessions(&stage).is_empty()).then_some(()))
    };
    wait::until("its cgroup to go", LIMIT, left).expect("gone");
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
