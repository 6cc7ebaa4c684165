//! TLS towards the agent: each `sslmode` works, `verify-full` proves what it should, and no
//! trick at the start of a connection gets clear text read as if it were private.
//!
//! Seen to fail, each by breaking what it is about: all that say something about TLS itself.
//! Bytes behind the SSLRequest kept, a second request answered, the name that the agent says
//! signed as it is, ALPN not asked for, the agent's side never flushed, no time limit while
//! the handshake lasts, an end without close_notify taken for a broken connection, keys that
//! cancel nothing, a state directory that is not hidden, a key file of mode 0644 taken.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use portcullis_tests::audit::{self, text};
use portcullis_tests::daemon::Options;
use portcullis_tests::paths::{fixture, venv_python};
use portcullis_tests::process::{self, Finished, Process};
use portcullis_tests::wait;
use serde_json::Value;

use crate::stage::{AT_ONCE, Stage};
use crate::{hostile, metrics};

const LIMIT: Duration = Duration::from_secs(60);
const HOSTS: &str = "127.0.0.1 localhost\n127.0.0.1 db.corp.test\n127.0.0.1 also.corp.test\n\
                     127.0.0.1 other.corp.test\n";
const NAME: &str = "db.corp.test";

/// The shop under two names, and an address that no policy has.
fn stage() -> Stage {
    stage_with(|_| ())
}

fn stage_with(change: impl FnOnce(&mut Options)) -> Stage {
    Stage::with(|options| {
        change(options);
        options.hosts = HOSTS.into();
        let at = options
            .policy
            .replace("at: ['127.0.0.1:", "at: ['db.corp.test:");
        let port = at.split_once("db.corp.test:").expect("replaced").1;
        let port = port.split('\'').next().expect("a port").to_owned();
        let two = format!("'db.corp.test:{port}', 'also.corp.test:{port}'");
        options.policy = at.replace(&format!("'db.corp.test:{port}'"), &two);
        let rule = "\n  - {id: wait, role: analyst, allow: [sql.call], on: ['shop/pg_catalog.pg_sleep']}\n";
        options.policy.push_str(rule);
    })
}

/// Where every agent may read the authority's certificate.
fn certificate(stage: &Stage) -> PathBuf {
    stage.daemon.path("run-agents/authority.crt")
}

/// One psql with these connection settings.
fn psql(stage: &Stage, settings: &str) -> Finished {
    let port = stage.server.port();
    let conninfo = format!("port={port} dbname=shop connect_timeout=20 {settings}");
    let words = [
        "psql",
        "-XAtq",
        "-d",
        &conninfo,
        "-c",
        "SELECT count(*) FROM orders",
    ];
    stage.agent().run(&words).expect("psql runs")
}

fn assert_works(done: &Finished, what: &str) {
    assert_eq!(
        (done.code(), done.stdout.trim()),
        (0, "300"),
        "{what}: {}",
        done.stderr
    );
}

/// The `tls` of the connections that were opened, in order.
fn opened(stage: &Stage) -> Vec<String> {
    let lines = stage.daemon.audit().expect("record");
    let opened = lines
        .iter()
        .filter(|line| audit::is(line, "connection_open"));
    opened.map(|line| text(line, "tls")).collect()
}

fn raw(stage: &Stage, mode: &str) {
    let script = fixture("tls_client.py").display().to_string();
    let port = stage.server.port().to_string();
    let authority = certificate(stage).display().to_string();
    let words = ["python3", "-B", &script, &port, mode, &authority];
    let done = stage.agent().limit(LIMIT).run(&words).expect("python runs");
    assert_eq!(done.code(), 0, "{mode}: {}", done.both());
}

fn libpq(stage: &Stage, mode: &str, conninfo: &str) -> String {
    let python = venv_python().expect("venv").display().to_string();
    let script = fixture("libpq_tls.py").display().to_string();
    let port = stage.server.port().to_string();
    let words = [&python, &script, &port, mode, conninfo];
    // As a trust store would have it: libpq's `sslrootcert=system` is OpenSSL's own.
    let store = certificate(stage).display().to_string();
    let agent = stage.agent().env("SSL_CERT_FILE", &store).limit(LIMIT);
    let done = agent.run(&words).expect("python runs");
    assert_eq!(done.code(), 0, "{conninfo}: {}", done.both());
    done.stdout.trim().to_owned()
}

fn refusal(stage: &Stage, part: &str) -> Value {
    let line = stage.daemon.audit_line(part, |line| {
        audit::is(line, "connection_refused") && text(line, "reason").contains(part)
    });
    line.expect("recorded")
}

#[test]
fn every_sslmode_works_and_the_record_says_which_it_was() {
    let stage = stage();
    let root = format!("sslrootcert={}", certificate(&stage).display());
    for (settings, tls) in [
        ("sslmode=disable", "off"),
        ("sslmode=allow", "off"),
        ("", "TLSv1.3"),
        ("sslmode=prefer", "TLSv1.3"),
        ("sslmode=require", "TLSv1.3"),
        (
            "sslmode=require ssl_max_protocol_version=TLSv1.2",
            "TLSv1.2",
        ),
        ("sslmode=require sslsni=0", "TLSv1.3"),
        (&format!("sslmode=verify-ca {root}"), "TLSv1.3"),
        (&format!("sslmode=verify-full {root}"), "TLSv1.3"),
        // Without its name the agent is shown all that the service is called.
        (&format!("sslmode=verify-full sslsni=0 {root}"), "TLSv1.3"),
    ] {
        let done = psql(&stage, &format!("host={NAME} {settings}"));
        assert_works(&done, settings);
        assert_eq!(opened(&stage).last().expect("opened"), tls, "{settings}");
    }
}

#[test]
fn verify_full_holds_for_the_services_names_and_its_address_only() {
    let stage = stage();
    let root = format!(
        "sslmode=verify-full sslrootcert={}",
        certificate(&stage).display()
    );
    for host in [NAME, "also.corp.test", "127.0.0.1"] {
        assert_works(&psql(&stage, &format!("host={host} {root}")), host);
    }
    // Names that the policy does not know, though the agent's resolver may.
    for host in ["other.corp.test", "evil.example", "corp.test"] {
        let done = psql(&stage, &format!("host={host} hostaddr=127.0.0.1 {root}"));
        assert_ne!(done.code(), 0, "{host}");
        assert!(
            done.stderr.contains("does not match host name"),
            "{host}: {}",
            done.stderr
        );
    }
}

#[test]
fn a_wrong_authority_is_not_believed_and_that_is_recorded() {
    let (stage, other) = (stage(), stage());
    for mode in ["verify-ca", "verify-full"] {
        let root = format!("sslrootcert={}", certificate(&other).display());
        let done = psql(&stage, &format!("host={NAME} sslmode={mode} {root}"));
        assert_ne!(done.code(), 0, "{mode}");
        assert!(
            done.stderr.contains("certificate verify failed"),
            "{}",
            done.stderr
        );
    }
    let line = refusal(&stage, "TLS with the agent failed");
    assert_eq!(text(&line, "blame"), "agent", "{line}");
    assert_eq!(opened(&stage), [""; 0], "nothing was opened");
}

#[test]
fn channel_binding_can_not_be_had_where_no_password_is_asked_for() {
    let stage = stage();
    let done = psql(&stage, &format!("host={NAME} channel_binding=require"));
    assert_ne!(done.code(), 0);
    assert!(
        done.stderr.contains("channel binding required"),
        "{}",
        done.stderr
    );
}

#[test]
fn tls_that_was_asked_for() {
    raw(&stage(), "asked");
}

#[test]
fn direct_tls() {
    let stage = stage();
    raw(&stage, "direct");
    refusal(&stage, "ALPN");
    let full = format!("host={NAME} sslmode=verify-full sslrootcert=system");
    for (conninfo, expected) in [
        (format!("host={NAME} sslmode=disable"), "ok plain"),
        (full.clone(), "ok tls"),
        (format!("{full} sslnegotiation=direct"), "ok tls"),
    ] {
        assert_eq!(libpq(&stage, "connect", &conninfo), expected, "{conninfo}");
    }
    let wrong = format!(
        "host=evil.example hostaddr=127.0.0.1 {}",
        &full[full.find(' ').unwrap_or(0)..]
    );
    let error = libpq(&stage, "connect", &format!("{wrong} sslnegotiation=direct"));
    assert!(error.contains("does not match host name"), "{error}");
}

#[test]
fn tls_is_asked_for_once() {
    raw(&stage(), "twice");
}

#[test]
fn clear_text_behind_the_request_is_refused() {
    let stage = stage();
    raw(&stage, "behind");
    let line = refusal(&stage, "unencrypted data behind");
    assert_eq!(text(&line, "blame"), "agent");
    assert_eq!(opened(&stage), [""; 0]);
}

#[test]
fn a_query_is_cancelled_inside_tls() {
    let stage = stage();
    raw(&stage, "cancel");
    for negotiation in ["postgres", "direct"] {
        let conninfo = format!("host={NAME} sslmode=require sslnegotiation={negotiation}");
        assert_eq!(libpq(&stage, "cancel", &conninfo), "57014", "{negotiation}");
    }
}

#[test]
fn garbage_in_the_handshake_ends_the_connection() {
    let stage = stage();
    raw(&stage, "garbage");
    assert_eq!(opened(&stage), [""; 0]);
    assert_works(&psql(&stage, &format!("host={NAME}")), "afterwards");
}

#[test]
fn half_a_client_hello_times_out() {
    let stage = stage();
    raw(&stage, "half");
    let line = refusal(&stage, "the start-up took too long");
    assert_eq!(text(&line, "blame"), "agent");
}

/// The time limit is far off: what ends the session ends its handshakes at once.
#[test]
fn a_handshake_ends_with_its_session() {
    let stage = stage_with(|options| {
        options.limits = "{connections: 2000, startup_seconds: 50, drain_seconds: 2}".into();
    });
    let _agent = spawn(&stage, &["half-and-wait"]);
    metrics::wait_for(&stage.daemon, "portcullis_connections_open", |count| {
        count == 1
    });
    let portcullis = |words: &[&str]| {
        let mut command = stage.daemon.client();
        process::check(command.args(words), "", LIMIT).expect("portcullis")
    };
    let sessions: Value = serde_json::from_str(&portcullis(&["sessions", "--json"])).expect("JSON");
    let start = Instant::now();
    portcullis(&["revoke", &text(&sessions[0], "session")]);
    let line = refusal(&stage, "revoked");
    assert_eq!(text(&line, "blame"), "policy", "{line}");
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
}

#[test]
fn a_handshake_is_the_same_however_it_is_cut() {
    raw(&stage(), "cut");
}

#[test]
fn what_was_said_before_an_unclean_end_still_runs() {
    let stage = stage();
    raw(&stage, "unclean");
    assert_eq!(
        stage.fact("SELECT count(*) FROM staging WHERE id = 4711"),
        "1"
    );
}

#[test]
fn large_messages_go_both_ways() {
    raw(&stage(), "large");
}

/// `tls_client.py` in an agent session, until the guard is dropped.
fn spawn(stage: &Stage, mode: &[&str]) -> Process {
    let script = fixture("tls_client.py").display().to_string();
    let port = stage.server.port().to_string();
    let authority = certificate(stage).display().to_string();
    let (mode, more) = mode.split_first().expect("a mode");
    let words = ["python3", "-B", &script, &port, mode, &authority];
    let words: Vec<&str> = words.iter().chain(more).copied().collect();
    let mut command = stage.agent().command(&words);
    Process::spawn(command.stdin(Stdio::piped()), Signal::SIGKILL).expect("python starts")
}

#[test]
fn an_idle_connection_costs_little() {
    let stage = stage_with(|options| {
        options.limits = "{connections: 2000, startup_seconds: 50, drain_seconds: 2}".into();
    });
    let open = |connections: usize| {
        let all = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'agent_ro' AND \
                   state = 'idle' AND query LIKE '%orders%'";
        wait::until("the connections to be idle", LIMIT, || {
            Ok((stage.fact(all) == connections.to_string()).then_some(()))
        })
        .expect("idle");
        hostile::memory(&stage)
    };
    let _first = spawn(&stage, &["idle", "100"]);
    let before = open(100);
    let _more = spawn(&stage, &["idle", "300"]);
    let after = open(400);
    let each = after.saturating_sub(before) / 300;
    println!("{each} KiB for each idle connection over TLS");
    assert!(
        each < 64,
        "{each} KiB each: {before} KiB before, {after} KiB after"
    );
}

#[test]
fn the_authority_stays_over_a_restart_and_its_key_is_nobodys() {
    let mut stage = stage();
    let before = fs::read_to_string(certificate(&stage)).expect("published");
    assert_works(&psql(&stage, &format!("host={NAME}")), "before");
    let key = stage
        .daemon
        .path("state/authority.pem")
        .display()
        .to_string();
    for path in [
        key.as_str(),
        stage.daemon.path("state").to_str().expect("text"),
    ] {
        let done = stage
            .agent()
            .run(&["cat", path, &format!("{path}/authority.pem")]);
        let done = done.expect("cat runs");
        assert!(!done.both().contains("PRIVATE"), "{}", done.both());
        assert_ne!(done.code(), 0, "{}", done.both());
    }
    stage.daemon.stop().expect("stops");
    fs::remove_file(certificate(&stage)).expect("rm");
    stage.daemon.launch().expect("starts");
    assert_eq!(
        fs::read_to_string(certificate(&stage)).expect("published"),
        before
    );
}

#[test]
fn a_key_that_is_not_to_be_trusted_keeps_the_daemon_from_starting() {
    let mut stage = stage();
    stage.daemon.stop().expect("stops");
    let key = stage.daemon.path("state/authority.pem");
    let good = fs::read(&key).expect("read");
    let refused = |said: &str| {
        let done = stage.daemon.run_to_end(&[]).expect("ends");
        assert_eq!(done.code(), 1, "{}", done.both());
        assert!(
            done.stderr.contains(said) && done.stderr.contains("authority.pem"),
            "{}",
            done.stderr
        );
    };
    fs::write(&key, &good[..good.len() / 2]).expect("write");
    refused("no certificate");
    fs::write(&key, &good).expect("write");
    let chmod = |mode: &str| {
        process::check(Command::new("chmod").arg(mode).arg(&key), "", LIMIT).expect("chmod")
    };
    chmod("644");
    refused("mode 0644");
    chmod("600");
    process::check(Command::new("chown").arg("65534").arg(&key), "", LIMIT).expect("chown");
    refused("owner 65534");
    process::check(Command::new("chown").arg("0").arg(&key), "", LIMIT).expect("chown");
    stage.daemon.launch().expect("starts again");
}

#[test]
fn the_command_makes_shows_and_exports_the_authority_without_a_daemon() {
    let stage = Stage::unstarted(|_| ());
    let config = stage.daemon.config().display().to_string();
    let authority = |words: &[&str]| {
        let mut command = stage.daemon.client();
        command.args(["authority", "--config", &config]).args(words);
        process::run(&mut command, "", LIMIT).expect("runs")
    };
    let none = authority(&["show"]);
    assert_eq!(none.code(), 1);
    assert!(none.stderr.contains("authority make"), "{}", none.stderr);
    let made = authority(&["make"]);
    assert!(
        made.stdout.contains("sha256") && made.stdout.contains("subject"),
        "{}",
        made.both()
    );
    assert_eq!(authority(&["make"]).stdout, made.stdout);
    assert_eq!(authority(&["show"]).stdout, made.stdout);
    let file = stage.daemon.path("exported.crt");
    let done = authority(&["export", file.to_str().expect("text")]);
    assert_eq!(done.code(), 0, "{}", done.both());
    let pem = fs::read_to_string(&file).expect("exported");
    assert_eq!(authority(&["export"]).stdout, pem);
    exports_whole(&stage, &pem);
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-noout", "-text", "-in"]).arg(&file);
    let shown = process::check(&mut openssl, "", LIMIT).expect("openssl");
    for said in ["CA:TRUE, pathlen:0", "Certificate Sign", "Portcullis on "] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
}

/// Whatever the mask, everybody may read it; what a link leads to is not written.
fn exports_whole(stage: &Stage, pem: &str) {
    let export = |file: &Path| {
        let mut masked = Command::new("sh");
        masked.args(["-c", "umask 077; exec \"$0\" \"$@\""]);
        masked.arg(stage.daemon.client().get_program());
        masked
            .args(["authority", "--config"])
            .arg(stage.daemon.config());
        masked.arg("export").arg(file);
        process::run(&mut masked, "", LIMIT).expect("runs")
    };
    let (file, other) = (stage.daemon.path("masked.crt"), stage.daemon.path("other"));
    fs::write(&other, "other").expect("write");
    fs::hard_link(&other, &file).expect("link");
    let done = export(&file);
    assert_eq!(done.code(), 0, "{}", done.both());
    assert_eq!(fs::read_to_string(&file).expect("exported"), pem);
    assert_eq!(fs::metadata(&file).expect("there").mode() & 0o7777, 0o644);
    let link = stage.daemon.path("link.crt");
    symlink(&other, &link).expect("symlink");
    let done = export(&link);
    assert_eq!(done.code(), 1, "{}", done.both());
    assert!(done.stderr.contains("no plain file"), "{}", done.stderr);
    assert_eq!(fs::read_to_string(&other).expect("there"), "other");
}
