//! Where credentials come from: each source lets an agent work, and shows the secret nowhere.
//!
//! Vault is a stand-in here that knows the few calls of its documented API.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use portcullis_tests::daemon::{Options, write_private};
use portcullis_tests::shop;
use tempfile::TempDir;

use crate::stage::{AT_ONCE, Stage};

const FILE: &str = "credential: file:/etc/portcullis/secrets/shop";

/// The tests' policy with another credential.
fn with_credential(policy: &str, credential: &str) -> String {
    assert!(policy.contains(FILE));
    policy.replace(FILE, &format!("credential: {credential}"))
}

/// A stage whose service has its credential from elsewhere; no secret file is left.
fn stage(credential: &str, change: impl FnOnce(&mut Options, &str)) -> Stage {
    Stage::with(|options| {
        let password = options.secrets.remove(0).1;
        options.policy = with_credential(&options.policy, credential);
        change(options, &password);
    })
}

/// A program of root's that runs this script.
fn program(directory: &Path, script: &str) -> String {
    let path = directory.join("helper");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("write");
    fs::set_permissions(&path, Permissions::from_mode(0o700)).expect("chmod");
    path.display().to_string()
}

/// The agent works, and neither it nor anybody who reads about it finds these texts.
fn works_and_shows_nothing(stage: &Stage, secrets: &[&str]) {
    stage.assert_works();
    let pid = stage.daemon.pid().expect("runs");
    let port = stage.server.port();
    let script = format!(
        "env; tr '\\0' '\\n' </proc/self/environ; ps auxeww; \
         psql -h 127.0.0.1 -p {port} -d shop -c 'SELECT 1/0' -c '\\conninfo' -c 'SELECT nothing'"
    );
    let agent = stage.agent().run(&["sh", "-c", &script]).expect("runs");
    assert!(
        agent.both().contains("division by zero"),
        "{}",
        agent.both()
    );
    // A log-in that fails is told of too.
    let role = "ALTER ROLE agent_ro NOLOGIN";
    stage.server.sql("postgres", role).expect("alter");
    let refused = stage.psql("SELECT 1");
    stage
        .server
        .sql("postgres", "ALTER ROLE agent_ro LOGIN")
        .expect("alter");
    let mut status = stage.daemon.client();
    let status = status.args(["status", "--json"]).output().expect("status");
    let of_daemon = |name: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{name}")).expect("proc");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let texts = [
        agent.both(),
        refused.both(),
        stage.daemon.log(),
        fs::read_to_string(stage.daemon.audit_path()).expect("record"),
        String::from_utf8_lossy(&status.stdout).into_owned(),
        of_daemon("cmdline"),
        of_daemon("environ"),
    ];
    for text in &texts {
        assert!(!text.is_empty());
        for secret in secrets {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[test]
fn a_variable_is_taken_out_of_the_environment() {
    let stage = stage("env:SHOP_PASSWORD", |options, password| {
        let variable = ("SHOP_PASSWORD".into(), password.into());
        options.environment.push(variable);
    });
    let pid = stage.daemon.pid().expect("runs");
    let environ = fs::read(format!("/proc/{pid}/environ")).expect("environ");
    assert!(String::from_utf8_lossy(&environ).contains("PATH="));
    works_and_shows_nothing(&stage, &[stage.server.agent_password()]);
}

#[test]
fn the_service_managers_credential_is_one() {
    let directory = TempDir::new().expect("directory");
    let path = directory.path().to_owned();
    let stage = stage("systemd:shop", |options, password| {
        write_private(&path.join("shop"), password).expect("write");
        let variable = ("CREDENTIALS_DIRECTORY".into(), path.display().to_string());
        options.environment.push(variable);
    });
    works_and_shows_nothing(&stage, &[stage.server.agent_password()]);
}

#[test]
fn a_program_prints_it() {
    let directory = TempDir::new().expect("directory");
    let helper = directory.path().join("helper").display().to_string();
    let stage = stage(
        &format!("{{exec: [{helper}], format: json}}"),
        |_, password| {
            let script = format!("echo '{{\"secret\": \"{password}\", \"lease_seconds\": 60}}'");
            program(directory.path(), &script);
        },
    );
    works_and_shows_nothing(&stage, &[stage.server.agent_password()]);
    // Kept for its lease: the program is not asked again, until its secret is a wrong one.
    program(directory.path(), "echo broken >&2; exit 1");
    stage.assert_works();
    let role = "ALTER ROLE agent_ro PASSWORD 'rotated-secret'";
    stage.server.sql("postgres", role).expect("alter");
    assert_ne!(stage.psql("SELECT 1").code(), 0);
    program(directory.path(), "echo '{\"secret\": \"rotated-secret\"}'");
    stage.assert_works();
}

#[test]
fn a_program_may_run_only_if_the_policy_named_one_at_the_start() {
    let directory = TempDir::new().expect("directory");
    let stage = Stage::new();
    let helper = program(directory.path(), "echo hunter2");
    let policy = shop::policy(stage.server.port()).expect("policy");
    let policy = with_credential(&policy, &format!("{{exec: [{helper}]}}"));
    stage.daemon.write_policy(&policy).expect("write");
    let line = |line: &serde_json::Value| {
        line["event"] == "policy_loaded" && line["generation"].as_u64() == Some(2)
    };
    stage
        .daemon
        .audit_line("the new policy", line)
        .expect("loaded");
    assert_ne!(stage.psql("SELECT 1").code(), 0);
    assert!(
        stage.daemon.log().contains("restart it"),
        "{}",
        stage.daemon.log()
    );
}

#[test]
fn a_file_that_is_rotated_counts_at_once() {
    let stage = Stage::new();
    stage.assert_works();
    let role = "ALTER ROLE agent_ro PASSWORD 'rotated-secret'";
    stage.server.sql("postgres", role).expect("alter");
    assert_ne!(stage.psql("SELECT 1").code(), 0);
    let file = stage.daemon.path("secrets/shop");
    write_private(&file, "rotated-secret\n").expect("write");
    stage.assert_works();
}

/// What is never answered.
const HANGS: &str = "get /v1/secret/data/hangs";

/// What the stand-in is asked, and what it answers `database/creds/ro` with.
struct StandIn {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl StandIn {
    /// Serves until the test's process ends.
    fn start(user: &str, password: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = format!("http://{}", listener.local_addr().expect("address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (user, password) = (user.to_owned(), password.to_owned());
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().flatten() {
                held.extend(answer(stream, &user, &password, &log));
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("lock").clone()
    }
}

/// Gives back the connection that it will never answer.
fn answer(
    mut stream: TcpStream,
    user: &str,
    password: &str,
    log: &Mutex<Vec<String>>,
) -> Option<TcpStream> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |text| text.trim().parse().expect("length"))];
    stream.read_exact(&mut body).expect("body");
    let call = head
        .lines()
        .next()
        .unwrap_or_default()
        .replace(" http/1.1", "");
    log.lock().expect("lock").push(call.clone());
    if call == HANGS {
        return Some(stream);
    }
    let known = head.contains("x-vault-token: hvs.the-token");
    let (status, json) = match call.as_str() {
        "post /v1/auth/approle/login" => (
            200,
            r#"{"auth":{"client_token":"hvs.the-token","lease_duration":3600,"renewable":true}}"#
                .to_owned(),
        ),
        _ if !known => (403, r#"{"errors":["permission denied"]}"#.to_owned()),
        "get /v1/secret/data/shop" => (
            200,
            format!(r#"{{"data":{{"data":{{"password":"{password}"}}}}}}"#),
        ),
        "get /v1/database/creds/ro" => (
            200,
            format!(
                r#"{{"lease_id":"database/creds/ro/1","lease_duration":3600,"renewable":true,"data":{{"username":"{user}","password":"{password}"}}}}"#
            ),
        ),
        _ => (204, String::new()),
    };
    let length = json.len();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{json}");
    stream.write_all(head.as_bytes()).expect("answer");
    None
}

/// A stage with Vault behind AppRole; and the stand-in.
fn with_vault(place: &str, user: &str, password: &str) -> (Stage, StandIn, TempDir) {
    with_vault_and(place, user, password, |_| ())
}

fn with_vault_and(
    place: &str,
    user: &str,
    password: &str,
    change: impl FnOnce(&mut Options),
) -> (Stage, StandIn, TempDir) {
    let directory = TempDir::new().expect("directory");
    let secret_id = directory.path().join("secret-id");
    write_private(&secret_id, "the-secret-id").expect("write");
    let mut stand_in = None;
    let stage = stage(&format!("{{vault: '{place}'}}"), |options, agents| {
        let password = if password.is_empty() {
            agents
        } else {
            password
        };
        let server = StandIn::start(user, password);
        options.extra = format!(
            "vault: {{address: '{}', timeout_seconds: 60, approle: {{role_id: r, secret_id_file: {}}}}}\n",
            server.address,
            secret_id.display()
        );
        change(options);
        stand_in = Some(server);
    });
    (stage, stand_in.expect("started"), directory)
}

#[test]
fn a_field_in_vault_is_one() {
    let (stage, _server, _directory) = with_vault("secret/data/shop#password", "", "");
    let secrets = [
        stage.server.agent_password(),
        "hvs.the-token",
        "the-secret-id",
    ];
    works_and_shows_nothing(&stage, &secrets);
}

#[test]
fn a_user_that_vault_makes_is_the_one_that_logs_in_and_is_given_back() {
    let (mut stage, server, _directory) =
        with_vault("database/creds/ro", "v-ro-1", "made-by-vault");
    let made = "CREATE ROLE \"v-ro-1\" LOGIN PASSWORD 'made-by-vault' IN ROLE agent_ro";
    stage.server.sql("postgres", made).expect("create");
    let mut psql = stage.open_psql();
    assert!(
        psql.query("SELECT count(*) FROM orders")
            .expect("answer")
            .contains("300")
    );
    let who = "SELECT string_agg(usename, ',') FROM pg_stat_activity \
               WHERE datname = 'shop' AND pid <> pg_backend_pid()";
    assert_eq!(stage.fact(who), "v-ro-1");
    drop(psql);
    works_and_shows_nothing(&stage, &["made-by-vault", "hvs.the-token", "the-secret-id"]);
    let asked = |what: &str| server.asked().iter().filter(|one| *one == what).count();
    assert_eq!(asked("get /v1/database/creds/ro"), 1, "for all connections");
    stage.daemon.stop().expect("stops");
    assert_eq!(asked("put /v1/sys/leases/revoke"), 1);
    assert_eq!(asked("put /v1/auth/token/revoke-self"), 1);
}

#[test]
fn a_vault_that_hangs_is_waited_for_no_longer_than_the_start_up() {
    let (stage, _server, _directory) = with_vault("secret/data/hangs#password", "", "");
    let begun = Instant::now();
    let done = stage.psql("SELECT 1");
    assert_ne!(done.code(), 0);
    // The start-up has 3 seconds, Vault 60.
    assert!(begun.elapsed() < Duration::from_secs(20));
    stage
        .daemon
        .audit_line("the end", ended("the credential took too long"))
        .expect("ended");
}

#[test]
fn who_waits_for_vault_is_seen_to_go_and_is_told_of_the_end() {
    let place = "secret/data/hangs#password";
    let (mut stage, _server, _directory) = with_vault_and(place, "", "", |options| {
        options.limits = "{connections: 2000, startup_seconds: 50, drain_seconds: 20}".into();
    });
    let port = stage.server.port();
    let psql = format!("psql -h 127.0.0.1 -p {port} -d shop -c 'SELECT 1' >/dev/null 2>&1 &");
    let mut shell = stage.agent().shell().expect("shell");
    shell.run(&psql, AT_ONCE).expect("starts");
    wait_for_opened(&stage, 1);
    let (said, code) = shell.run("kill -9 $!; wait $!", AT_ONCE).expect("kill");
    assert_eq!(code, 137, "{said}");
    let gone = ended("the agent closed the connection before the login");
    stage.daemon.audit_line("the end", gone).expect("ended");
    shell.run(&psql, AT_ONCE).expect("starts");
    wait_for_opened(&stage, 2);
    let begun = Instant::now();
    stage.daemon.stop().expect("stops");
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "not the drain's 20"
    );
    let stops = ended("the daemon stops");
    stage.daemon.audit_line("the end", stops).expect("ended");
}

fn ended(reason: &str) -> impl Fn(&serde_json::Value) -> bool {
    move |line| line["event"] == "connection_close" && line["reason"] == reason
}

fn wait_for_opened(stage: &Stage, number: usize) {
    let opened = |line: &serde_json::Value| line["event"] == "connection_open";
    let enough = |_: &serde_json::Value| {
        let lines = stage.daemon.audit().expect("record");
        lines.iter().filter(|line| opened(line)).count() >= number
    };
    let what = format!("opening {number}");
    stage.daemon.audit_line(&what, enough).expect("opened");
}
