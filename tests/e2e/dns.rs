//! Agents resolve the names of their services, whatever resolver they ask, and nothing else;
//! the name is in the record and tells services apart.
//!
//! Seen to fail: with the zone not given to the resolver, the first; with every name of the
//! policy answered to everybody, the name of another's service; with the name not asked at
//! admission, the two services at one address.

use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use portcullis_tests::agent::LIMIT;
use portcullis_tests::audit::{is, text};
use portcullis_tests::daemon::Options;
use portcullis_tests::netns::NamedNetns;
use portcullis_tests::process::{self, Finished};
use serde_json::Value;

use crate::metrics;
use crate::stage::Stage;

const HOSTS: &str = "127.0.0.1 localhost\n127.0.0.1 db.corp.test\n127.0.0.1 also.corp.test\n\
                     192.0.2.77 hr.corp.test\n";

/// The shop's server under a name, and a service of which the agent has no rule.
fn stage() -> Stage {
    Stage::with(|options| {
        name_it(options, "db.corp.test");
        add_service(options, "hr", "hr.corp.test:5432");
    })
}

fn name_it(options: &mut Options, host: &str) {
    options.hosts = HOSTS.into();
    options.policy = options.policy.replace("127.0.0.1", host);
}

/// A copy of the service `shop` under another name and place.
fn add_service(options: &mut Options, name: &str, at: &str) {
    let service = format!(
        "services:\n  {name}: {{proto: postgres, at: ['{at}'], tls: disable, user: agent_ro, \
         database: shop, credential: 'file:{}/shop'}}\n",
        portcullis_tests::shop::SECRETS
    );
    options.policy = options.policy.replacen("services:\n", &service, 1);
}

fn psql(stage: &Stage, host: &str) -> Finished {
    let port = stage.server.port().to_string();
    let words = ["psql", "-XAtq", "-h", host, "-p", &port, "-d", "shop", "-c"];
    let words: Vec<&str> = words
        .into_iter()
        .chain(["SELECT count(*) FROM orders"])
        .collect();
    stage.agent().run(&words).expect("psql runs")
}

fn refused(stage: &Stage, name: &str) -> Value {
    let line = stage.daemon.audit_line("dns_refused", |line| {
        is(line, "dns_refused") && text(line, "name") == name
    });
    line.expect("recorded")
}

#[test]
fn psql_finds_its_server_by_name_and_the_record_has_the_name() {
    let stage = stage();
    let done = psql(&stage, "db.corp.test");
    assert_eq!(done.stdout.trim(), "300", "{}", done.stderr);
    let decision = stage.daemon.decision("FROM orders").expect("a decision");
    assert_eq!(text(&decision, "name"), "db.corp.test");
    let done = stage
        .agent()
        .run(&["getent", "ahosts", "db.corp.test"])
        .expect("getent");
    assert!(done.stdout.contains("127.0.0.1"), "{}", done.both());
}

#[test]
fn other_names_are_refused_at_once_and_recorded() {
    let stage = stage();
    for name in ["evil.example", "hr.corp.test", "db.corp.test.evil.example"] {
        let done = stage
            .agent()
            .run(&["getent", "ahosts", name])
            .expect("getent");
        assert_eq!(
            (done.code(), done.stdout.as_str()),
            (2, ""),
            "{}",
            done.stderr
        );
        let line = refused(&stage, name);
        assert_eq!(text(&line, "principal"), "analyst");
        assert_eq!(text(&line, "command"), "getent");
        assert!(text(&line, "resolver").ends_with(":53"));
    }
    let counted =
        "portcullis_dns_refused_total{reason=\"no service of the session has this name\"}";
    metrics::wait_for(&stage.daemon, counted, |count| count >= 3);
}

#[test]
fn search_domains_go_nowhere() {
    let stage = stage();
    let agent = stage.agent().env("LOCALDOMAIN", "corp.example.com");
    let ask = |name| agent.run(&["getent", "ahostsv4", name]).expect("getent");
    assert_eq!(ask("db").code(), 2);
    refused(&stage, "db.corp.example.com");
    refused(&stage, "db");
    let agent = stage.agent().env("LOCALDOMAIN", "corp.test");
    let done = agent.run(&["getent", "ahostsv4", "db"]).expect("getent");
    assert!(done.stdout.contains("127.0.0.1"), "{}", done.both());
}

/// The lines of `dns_agent.py` by what it tried.
fn by_hand(stage: &Stage) -> Vec<Value> {
    let done = stage.python("dns_agent.py", &["db.corp.test"], Duration::from_secs(60));
    assert_eq!(done.code(), 0, "{}", done.both());
    let parse = |line| serde_json::from_str(line).expect("JSON");
    done.stdout.lines().map(parse).collect()
}

#[test]
fn queries_by_hand_learn_nothing_more() {
    let stage = stage();
    let lines = by_hand(&stage);
    let saw = |what: &str, field: &str| -> Vec<String> {
        let lines = lines.iter().filter(|line| line["what"] == what);
        let mut saw: Vec<String> = lines.map(|line| text(line, field)).collect();
        saw.dedup();
        saw
    };
    assert_eq!(saw("known", "address"), ["127.0.0.1"]);
    let strange = lines.iter().find(|line| line["same"] == false);
    assert_eq!(strange, None, "the answer came from another address");
    assert_eq!(saw("txt", "code"), ["NOERROR"]);
    assert_eq!(saw("txt", "answers"), ["0"]);
    assert_eq!(saw("outside", "code"), ["NXDOMAIN"]);
    assert_eq!(saw("sub", "code"), ["NXDOMAIN"]);
    assert_eq!(saw("broken", "code"), ["FORMERR"]);
    assert_eq!(saw("update", "code"), ["NOTIMP"]);
    assert_eq!(saw("long", "code"), ["FORMERR"]);
    assert_eq!(saw("port", "error"), ["ConnectionRefusedError"]);
    assert_eq!(saw("flood", "code"), ["NXDOMAIN"]);
    let counted = |line: &Value| {
        is(line, "dns_refused") && line["dropped"].as_u64().is_some_and(|dropped| dropped > 0)
    };
    stage
        .daemon
        .audit_line("what was left out", counted)
        .expect("counted");
    let all = stage.daemon.audit().expect("the record");
    let floods = all
        .iter()
        .filter(|line| text(line, "name").contains("evil.example"));
    assert!(floods.count() < 150, "the record is flooded");
    let done = psql(&stage, "db.corp.test");
    assert_eq!(done.stdout.trim(), "300", "{}", done.stderr);
}

#[test]
fn a_resolver_next_door_hears_nothing() {
    let stage = stage();
    let (home, other) = (
        NamedNetns::new().expect("netns"),
        NamedNetns::new().expect("netns"),
    );
    home.join(&other).expect("veth");
    let sink = other
        .run(|| Ok(UdpSocket::bind("198.51.100.2:53")?))
        .expect("a sink");
    let run =
        stage
            .agent()
            .command(&["busybox", "nslookup", "s3cret.evil.example", "198.51.100.2"]);
    let mut entered = Command::new("ip");
    entered.args(["netns", "exec", home.name()]);
    entered.arg(run.get_program()).args(run.get_args());
    process::run(&mut entered, "", LIMIT).expect("runs");
    let line = refused(&stage, "s3cret.evil.example");
    assert_eq!(text(&line, "resolver"), "198.51.100.2:53");
    sink.set_nonblocking(true).expect("non-blocking");
    sink.recv(&mut [0; 8]).expect_err("nothing came");
    // Without the gate it would have.
    home.run(|| Ok(UdpSocket::bind("0.0.0.0:0")?.send_to(b"x", "198.51.100.2:53")?))
        .expect("send");
    sink.set_nonblocking(false).expect("blocking");
    sink.set_read_timeout(Some(Duration::from_secs(5)))
        .expect("time limit");
    sink.recv(&mut [0; 8]).expect("it is there");
}

#[test]
fn the_name_tells_two_services_at_one_address_apart() {
    let stage = Stage::with(|options| {
        let port = options.policy.split("127.0.0.1:").nth(1).expect("a port");
        let port: String = port.chars().take_while(char::is_ascii_digit).collect();
        name_it(options, "db.corp.test");
        add_service(options, "second", &format!("also.corp.test:{port}"));
        options.policy = options.policy.replace(
            "rules:\n",
            "rules:\n  - {id: second, role: analyst, allow: [sql.select], \
             on: ['second/public.orders']}\n",
        );
    });
    for (host, service) in [("db.corp.test", "shop"), ("also.corp.test", "second")] {
        let done = psql(&stage, host);
        assert_eq!(done.stdout.trim(), "300", "{}", done.stderr);
        let of = |line: &Value| is(line, "decision") && text(line, "name") == host;
        let line = stage.daemon.audit_line(host, of).expect("a decision");
        assert_eq!(text(&line, "service"), service);
    }
    let done = psql(&stage, "127.0.0.1");
    assert_eq!(done.code(), 2, "{}", done.both());
    let reason = |line: &Value| text(line, "reason").contains("not asked for by name");
    stage
        .daemon
        .audit_line("a refusal", reason)
        .expect("recorded");
}
