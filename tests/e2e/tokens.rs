//! Sessions by token: started, renewed, ended, refused, with a real provider.

use std::fs;
use std::time::Duration;

use portcullis_tests::agent::Agent;
use portcullis_tests::audit::{is, text};
use portcullis_tests::issuer::{AUDIENCE, CLIENT, Issuer};
use portcullis_tests::{port, process, wait};
use serde_json::Value;

use crate::stage::Stage;

const LIMIT: Duration = Duration::from_secs(20);

/// The analyst's role goes to the provider's group `agents`.
fn stage(issuer: &Issuer) -> Stage {
    Stage::with(|options| {
        let when = format!(
            "analyst: {{when: {{issuer: '{}', groups: [agents]}}}}",
            issuer.url()
        );
        options.policy = options.policy.replace("analyst: {}", &when);
        options.extra = format!(
            "identity: {{issuers: [{{issuer: '{}', audience: '{AUDIENCE}'}}]}}\n",
            issuer.url()
        );
    })
}

fn provider() -> Issuer {
    Issuer::start(port::free().expect("a port"), "RS256").expect("a provider")
}

/// A file in the daemon's directory.
fn write(stage: &Stage, token: &str) -> String {
    let path = stage.daemon.path("token");
    let new = stage.daemon.path("token.new");
    fs::write(&new, token).expect("write");
    fs::rename(&new, &path).expect("rename");
    path.display().to_string()
}

fn sessions(stage: &Stage) -> Vec<Value> {
    let listed = process::run(
        stage.daemon.client().args(["sessions", "--json"]),
        "",
        LIMIT,
    );
    serde_json::from_str(&listed.expect("runs").stdout).expect("JSON")
}

fn query(stage: &Stage) -> String {
    format!(
        "psql -XAtq -h 127.0.0.1 -p {} -d shop -c 'select count(*) from orders'",
        stage.server.port()
    )
}

#[test]
fn a_token_opens_a_session_from_a_file_or_the_environment_and_is_not_passed_on() {
    let issuer = provider();
    let stage = stage(&issuer);
    let token = issuer.agent_token().expect("a token");
    let file = write(&stage, &format!("{token}\n"));
    let query = query(&stage);
    let run = |options: &[&str]| {
        let agent = Agent::new(&stage.daemon, "")
            .by(options)
            .env("TOKEN", &token);
        let line = format!("echo \"<$TOKEN>\"; {query}");
        agent.run(&["sh", "-c", &line]).expect("runs")
    };
    let done = run(&["--token-env", "TOKEN"]);
    assert_eq!(done.stdout, "<>\n300\n", "{}", done.stderr);
    let done = run(&["--token-file", &file]);
    assert!(done.stdout.ends_with("300\n"), "{}", done.both());
    let start = stage
        .daemon
        .audit_line("the start", |line| is(line, "session_start"))
        .expect("record");
    let (proof, principal) = (text(&start, "proof"), text(&start, "principal"));
    assert_eq!((proof.as_str(), principal.as_str()), ("token", "agent-1"));
    assert!(start["expires"].is_string(), "{start}");
    for place in [
        stage.daemon.log(),
        fs::read_to_string(stage.daemon.audit_path()).expect("record"),
    ] {
        assert!(!place.contains(&token), "the token was written down");
    }
}

#[test]
fn a_refused_token_says_why_and_is_recorded() {
    let issuer = provider();
    let stage = stage(&issuer);
    let good = issuer.agent_token().expect("a token");
    let users = issuer.user_token("alice").expect("a token");
    let cut = good.get(..good.len() - 8).expect("long").to_owned();
    for (token, said) in [
        (users.as_str(), "another audience"),
        (cut.as_str(), "signature"),
        ("abc", "three parts"),
    ] {
        let agent = Agent::new(&stage.daemon, "").by(&["--token-env", "TOKEN"]);
        let done = agent.env("TOKEN", token).run(&["true"]).expect("runs");
        assert_eq!(done.code(), 125, "{}", done.both());
        assert!(done.stderr.contains(said), "{}", done.stderr);
        stage
            .daemon
            .audit_line(said, |line| {
                is(line, "session_refused") && text(line, "reason").contains(said)
            })
            .expect("record");
    }
    // By name, where no role is given by name.
    let done = stage.agent().run(&["true"]).expect("runs");
    assert!(
        done.code() == 125 && done.stderr.contains("no role"),
        "{}",
        done.both()
    );
}

#[test]
fn a_fresh_token_in_the_file_renews_the_session_by_itself() {
    let issuer = provider();
    let stage = stage(&issuer);
    let file = write(&stage, &issuer.agent_token().expect("a token"));
    let agent = Agent::new(&stage.daemon, "").by(&["--token-file", &file]);
    let mut shell = agent.shell().expect("a shell");
    assert_eq!(shell.run(&query(&stage), LIMIT).expect("psql").0, "300\n");
    let before = sessions(&stage)[0]["expires"].clone();
    // Half of a token, as a writer that is not careful leaves it for a moment.
    write(&stage, "eyJhbGciOi");
    let fresh = wait::until("a later end", LIMIT, || {
        write(&stage, &issuer.agent_token()?);
        let now = sessions(&stage)[0]["expires"].clone();
        Ok((now != before).then_some(now))
    });
    let fresh = fresh.expect("renewed");
    assert!(fresh.as_str() > before.as_str(), "{before} {fresh}");
    assert_eq!(shell.run(&query(&stage), LIMIT).expect("psql").0, "300\n");
    // The agent has no child that it did not start.
    let children = format!("/proc/{}/task/{0}/children", shell.pid());
    assert_eq!(fs::read_to_string(children).expect("children"), "");
    drop(shell);
    let socket = stage.daemon.path("run/control.sock").display().to_string();
    wait::until("the watcher to end", LIMIT, || {
        let found = process::run(
            std::process::Command::new("pgrep").args(["-f", &socket]),
            "",
            LIMIT,
        )?;
        Ok(found.stdout.is_empty().then_some(()))
    })
    .expect("no watcher is left");
}

#[test]
fn the_watcher_waits_for_a_dead_daemon_and_not_for_a_session_that_is_gone() {
    let issuer = provider();
    let mut stage = stage(&issuer);
    let file = write(&stage, &issuer.agent_token().expect("a token"));
    let agent = Agent::new(&stage.daemon, "").by(&["--token-file", &file]);
    let mut shell = agent.shell().expect("a shell");
    shell.run("true", LIMIT).expect("runs");
    let socket = stage.daemon.path("run/control.sock").display().to_string();
    let watchers = || {
        let mut pgrep = std::process::Command::new("pgrep");
        let found = process::run(pgrep.args(["-f", &socket]), "", LIMIT)?;
        anyhow::Ok(found.stdout.lines().count())
    };
    stage.daemon.kill9().expect("killed");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(watchers().expect("pgrep"), 1, "it gave up on a dead daemon");
    drop(shell);
    stage.daemon.release().expect("released");
    // One that had not found its session yet asks a dead daemon for a minute.
    wait::until("the watcher to end", Duration::from_secs(90), || {
        Ok((watchers()? == 0).then_some(()))
    })
    .expect("ends");
}

#[test]
fn only_the_same_subject_renews() {
    let issuer = provider();
    let stage = stage(&issuer);
    let agent = Agent::new(&stage.daemon, "").by(&["--token-env", "TOKEN"]);
    let token = issuer.agent_token().expect("a token");
    let mut shell = agent.env("TOKEN", &token).shell().expect("a shell");
    shell.run("true", LIMIT).expect("runs");
    let id = sessions(&stage)[0]["session"]
        .as_str()
        .expect("id")
        .to_owned();
    let renew = |token: &str| {
        let mut command = stage.daemon.client();
        command
            .args(["renew", &id, "--token-env", "TOKEN"])
            .env("TOKEN", token);
        process::run(&mut command, "", LIMIT).expect("runs")
    };
    let done = renew(&token);
    assert!(
        done.code() == 0 && done.stdout.contains("renewed until"),
        "{}",
        done.both()
    );
    let other = issuer.other_token().expect("a token");
    let done = renew(&other);
    assert!(
        done.code() == 1 && done.stderr.contains("another principal"),
        "{}",
        done.both()
    );
}

/// Renews the one session that is nobody's inner one; gives all sessions afterwards.
fn renew(stage: &Stage, token: &str) -> Vec<Value> {
    let all = sessions(stage);
    let outer = all
        .iter()
        .find(|one| one["chain"] == serde_json::json!([]))
        .expect("a session");
    let mut command = stage.daemon.client();
    command.args([
        "renew",
        outer["session"].as_str().expect("id"),
        "--token-env",
        "TOKEN",
    ]);
    let done = process::run(command.env("TOKEN", token), "", LIMIT).expect("runs");
    assert_eq!(done.code(), 0, "{}", done.both());
    sessions(stage)
}

#[test]
fn a_time_that_was_asked_for_is_not_lifted_by_a_fresh_token() {
    let issuer = provider();
    let stage = stage(&issuer);
    let token = issuer.agent_token().expect("a token");
    let options = ["--token-env", "TOKEN", "--for", "100s"];
    let agent = Agent::new(&stage.daemon, "")
        .by(&options)
        .env("TOKEN", &token);
    let mut shell = agent.shell().expect("a shell");
    shell.run("true", LIMIT).expect("runs");
    let before = sessions(&stage)[0]["expires"].clone();
    let after = renew(&stage, &issuer.agent_token().expect("a token"));
    assert_eq!(after[0]["expires"], before);
}

#[test]
fn an_inner_session_keeps_up_with_the_outer_one_when_it_is_renewed() {
    let issuer = provider();
    let stage = stage(&issuer);
    let token = issuer.agent_token().expect("a token");
    let agent = Agent::new(&stage.daemon, "")
        .by(&["--token-env", "TOKEN"])
        .env("TOKEN", &token);
    let mut shell = agent.shell().expect("a shell");
    let client = stage.daemon.client();
    let (program, socket) = (client.get_program(), stage.daemon.path("run/control.sock"));
    for time in ["", "--for 200s"] {
        let line = format!(
            "{} --socket {} run --role analyst {time} -- sleep 60 </dev/null >/dev/null 2>&1 &",
            program.display(),
            socket.display()
        );
        shell.run(&line, LIMIT).expect("starts");
    }
    wait::until("three sessions", LIMIT, || {
        Ok((sessions(&stage).len() == 3).then_some(()))
    })
    .expect("three");
    let own = sessions(&stage);
    let own: Vec<&Value> = own.iter().map(|one| &one["expires"]).collect();
    let bounded = own
        .iter()
        .min_by_key(|end| end.as_str())
        .expect("three")
        .to_string();
    let mut last = own
        .iter()
        .max_by_key(|end| end.as_str())
        .expect("three")
        .to_string();
    for _ in 0..4 {
        let all = wait::until("a later end", LIMIT, || {
            let all = renew(&stage, &issuer.agent_token()?);
            let later = all.iter().map(|one| one["expires"].to_string()).max();
            Ok((later.as_ref() > Some(&last)).then_some(all))
        })
        .expect("renewed");
        let ends: Vec<String> = all.iter().map(|one| one["expires"].to_string()).collect();
        last = ends.iter().max().expect("three").clone();
        assert_eq!(
            ends.iter().filter(|end| **end == last).count(),
            2,
            "{ends:?}"
        );
        assert_eq!(
            ends.iter().filter(|end| **end == bounded).count(),
            1,
            "{ends:?}"
        );
    }
}

#[test]
fn groups_that_a_fresh_token_lacks_count_at_once_for_unix_sockets_too() {
    let issuer = provider();
    let directory = tempfile::tempdir().expect("directory");
    let helper = directory.path().join("helper");
    let _listener = std::os::unix::net::UnixListener::bind(&helper).expect("bind");
    let stage = Stage::with(|options| {
        let when = |group| format!("when: {{issuer: '{}', groups: [{group}]}}", issuer.url());
        let roles = format!(
            "analyst: {{{}}}\n  helped: {{{}, unix_sockets: ['{}']}}",
            when("dba"),
            when("sre"),
            helper.display()
        );
        options.policy = options.policy.replace("analyst: {}", &roles);
        options.extra = format!(
            "identity: {{issuers: [{{issuer: '{}', audience: {CLIENT}}}]}}\n",
            issuer.url()
        );
    });
    let token = issuer.user_token("alice").expect("a token");
    let agent = Agent::new(&stage.daemon, "")
        .by(&["--token-env", "TOKEN"])
        .env("TOKEN", &token);
    let mut shell = agent.shell().expect("a shell");
    let connect = format!(
        "python3 -c \"import socket; socket.socket(socket.AF_UNIX).connect('{}')\"",
        helper.display()
    );
    assert_eq!(
        shell.run(&connect, LIMIT).expect("runs"),
        (String::new(), 0)
    );
    issuer.set_groups("alice", "dba").expect("groups");
    renew(&stage, &issuer.user_token("alice").expect("a token"));
    let (said, code) = shell.run(&connect, LIMIT).expect("runs");
    assert!(code != 0 && said.contains("Permission denied"), "{said}");
    assert_eq!(shell.run(&query(&stage), LIMIT).expect("psql").0, "300\n");
}

#[test]
fn a_refused_renewal_is_recorded() {
    let issuer = provider();
    let stage = stage(&issuer);
    let token = issuer.agent_token().expect("a token");
    let agent = Agent::new(&stage.daemon, "")
        .by(&["--token-env", "TOKEN"])
        .env("TOKEN", &token);
    let mut shell = agent.shell().expect("a shell");
    shell.run("true", LIMIT).expect("runs");
    let id = sessions(&stage)[0]["session"]
        .as_str()
        .expect("id")
        .to_owned();
    for (token, said) in [
        (issuer.other_token().expect("a token"), "another principal"),
        ("a.b.c".to_owned(), "token refused"),
    ] {
        let mut command = stage.daemon.client();
        command
            .args(["renew", &id, "--token-env", "TOKEN"])
            .env("TOKEN", &token);
        assert_eq!(
            process::run(&mut command, "", LIMIT).expect("runs").code(),
            1
        );
        stage
            .daemon
            .audit_line(said, |line| {
                is(line, "session_refused")
                    && text(line, "reason").contains(said)
                    && text(line, "session") == id
            })
            .expect("record");
    }
}

/// As Kubernetes gives out tokens: the file is a link into a directory that is a link, and
/// that one is swapped.
#[test]
fn a_token_behind_links_that_are_swapped_renews_the_session() {
    let issuer = provider();
    let stage = stage(&issuer);
    let home = stage.daemon.path("projected");
    fs::create_dir(&home).expect("mkdir");
    let swap = |name: &str, token: &str| {
        fs::create_dir(home.join(name)).expect("mkdir");
        fs::write(home.join(name).join("token"), token).expect("write");
        std::os::unix::fs::symlink(name, home.join("..new")).expect("symlink");
        fs::rename(home.join("..new"), home.join("..data")).expect("rename");
    };
    swap("..1", &issuer.agent_token().expect("a token"));
    std::os::unix::fs::symlink("..data/token", home.join("token")).expect("symlink");
    let file = home.join("token").display().to_string();
    let agent = Agent::new(&stage.daemon, "").by(&["--token-file", &file]);
    let mut shell = agent.shell().expect("a shell");
    shell.run("true", LIMIT).expect("runs");
    let before = sessions(&stage)[0]["expires"].clone();
    let mut number = 1;
    // Tokens count whole seconds: the first swap may bring no later end.
    wait::until("a later end", LIMIT, || {
        let old = format!("..{number}");
        number += 1;
        swap(&format!("..{number}"), &issuer.agent_token()?);
        fs::remove_dir_all(home.join(old))?;
        std::thread::sleep(Duration::from_secs(2));
        Ok((sessions(&stage)[0]["expires"].as_str() > before.as_str()).then_some(()))
    })
    .expect("renewed");
}

#[test]
fn a_renewal_that_fails_half_way_leaves_inner_sessions_no_more_than_the_outer_one() {
    let issuer = provider();
    let stage = Stage::with(|options| {
        let when = |group| format!("when: {{issuer: '{}', groups: [{group}]}}", issuer.url());
        // More than the kernel's list of all sessions holds.
        let names: String = (0..17_000).map(|n| format!("/run/h/{n},")).collect();
        let roles = format!(
            "analyst: {{{}}}\n  many: {{{}, unix_sockets: [{names}]}}",
            when("sre"),
            when("many")
        );
        options.policy = options.policy.replace("analyst: {}", &roles);
        options.extra = format!(
            "identity: {{issuers: [{{issuer: '{}', audience: {CLIENT}}}]}}\n",
            issuer.url()
        );
    });
    let token = issuer.user_token("alice").expect("a token");
    let agent = Agent::new(&stage.daemon, "")
        .by(&["--token-env", "TOKEN"])
        .env("TOKEN", &token);
    let mut shell = agent.shell().expect("a shell");
    let client = stage.daemon.client();
    let (program, socket) = (client.get_program(), stage.daemon.path("run/control.sock"));
    let line = format!(
        "{} --socket {} run --role analyst -- sleep 60 </dev/null >/dev/null 2>&1 &",
        program.display(),
        socket.display()
    );
    shell.run(&line, LIMIT).expect("starts");
    wait::until("two sessions", LIMIT, || {
        Ok((sessions(&stage).len() == 2).then_some(()))
    })
    .expect("two");
    issuer.set_groups("alice", "many").expect("groups");
    let token = issuer.user_token("alice").expect("a token");
    let outer = sessions(&stage)[0]["session"]
        .as_str()
        .expect("id")
        .to_owned();
    let mut command = stage.daemon.client();
    command
        .args(["renew", &outer, "--token-env", "TOKEN"])
        .env("TOKEN", &token);
    process::run(&mut command, "", LIMIT).expect("runs");
    for one in sessions(&stage) {
        let roles = one["roles"].to_string();
        assert!(
            !roles.contains("analyst") || one["ended"].is_string(),
            "{one}"
        );
    }
}
