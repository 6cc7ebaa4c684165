//! The counters, and what of the kernel's refusals is recorded.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use portcullis_tests::audit;
use portcullis_tests::daemon::Daemon;
use portcullis_tests::wait;
use serde_json::Value;

use crate::stage::Stage;

const LIMIT: Duration = Duration::from_secs(20);

/// What the control socket says now.
fn metrics(daemon: &Daemon) -> String {
    let stream = UnixStream::connect(daemon.path("run/control.sock")).expect("connect");
    get(stream, "/metrics")
}

fn get(mut stream: impl Read + Write, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answer");
    answer
}

/// The value of a line that starts with this.
fn value(text: &str, start: &str) -> Option<u64> {
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(start)?.trim().parse().ok())
}

pub fn wait_for(daemon: &Daemon, start: &str, fits: impl Fn(u64) -> bool) {
    let what = format!("`{start}` to fit");
    let look = || {
        Ok(value(&metrics(daemon), start)
            .is_some_and(&fits)
            .then_some(()))
    };
    wait::until(&what, LIMIT, look)
        .unwrap_or_else(|error| panic!("{error:#}\n{}", metrics(daemon)));
}

#[test]
fn decisions_connections_and_policies_are_counted() {
    let stage = Stage::new();
    stage.assert_works();
    let denied = stage.psql("DELETE FROM orders");
    assert!(
        denied.stderr.contains("42501") || denied.stderr.contains("denied"),
        "{}",
        denied.stderr
    );
    let allow = "portcullis_decisions_total{service=\"shop\",decision=\"allow\"}";
    let deny = "portcullis_decisions_total{service=\"shop\",decision=\"deny\"}";
    wait_for(&stage.daemon, allow, |count| count >= 1);
    wait_for(&stage.daemon, deny, |count| count == 1);
    wait_for(&stage.daemon, "portcullis_connections_total", |count| {
        count == 2
    });
    wait_for(&stage.daemon, "portcullis_connections_open", |count| {
        count == 0
    });
    wait_for(&stage.daemon, "portcullis_policy_generation", |count| {
        count == 1
    });
    wait_for(&stage.daemon, "portcullis_policy_rejected", |count| {
        count == 0
    });
    wait_for(&stage.daemon, "portcullis_degraded_layers", |count| {
        count >= 1
    });
    wait_for(&stage.daemon, "portcullis_audit_failures_total", |count| {
        count == 0
    });

    let good = std::fs::read_to_string(stage.daemon.policy_path()).expect("policy");
    stage.daemon.write_policy("version: 2\n").expect("write");
    wait_for(&stage.daemon, "portcullis_policy_rejected", |count| {
        count == 1
    });
    stage.daemon.write_policy(&good).expect("write");
    wait_for(&stage.daemon, "portcullis_policy_rejected", |count| {
        count == 0
    });

    let psql = stage.open_psql();
    wait_for(&stage.daemon, "portcullis_connections_open", |count| {
        count == 1
    });
    wait_for(&stage.daemon, "portcullis_sessions", |count| count == 1);
    drop(psql);
    wait_for(&stage.daemon, "portcullis_sessions", |count| count == 0);
}

#[test]
fn the_loopback_port_answers_metrics_and_nothing_else() {
    let free = TcpListener::bind("127.0.0.1:0").expect("free port");
    let address = free.local_addr().expect("address");
    drop(free);
    let stage = Stage::with(|options| {
        options.extra = format!("metrics: {{listen: '{address}'}}\n");
    });
    let ask = |path| get(TcpStream::connect(address).expect("connect"), path);
    let text = ask("/metrics");
    assert!(text.contains("text/plain; version=0.0.4"), "{text}");
    assert_eq!(value(&text, "portcullis_sessions"), Some(0));
    for path in ["/v1/status", "/v1/sessions"] {
        assert!(ask(path).starts_with("HTTP/1.1 404"), "{path}");
    }
    drop(stage);
}

#[test]
fn a_refusal_is_recorded_in_words_with_its_executable() {
    let stage = Stage::new();
    let script = "import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try: s.sendto(b'x', ('198.51.100.9', 9))
except OSError: pass
";
    stage
        .agent()
        .run(&["/usr/bin/python3", "-c", script])
        .expect("runs");
    let datagram = |line: &Value| {
        audit::is(line, "gate_refused") && audit::text(line, "destination") == "198.51.100.9:9"
    };
    let line = stage
        .daemon
        .audit_line("the datagram", datagram)
        .expect("record");
    let words = ["family", "type", "protocol", "layer"].map(|field| audit::text(&line, field));
    assert_eq!(words, ["inet", "dgram", "udp", "sendmsg4"]);
    // It has ended by now, most likely; if not, it is told.
    let executable = audit::text(&line, "executable");
    assert!(
        executable.is_empty() || executable.contains("python3"),
        "{line}"
    );
    let counted = format!(
        "portcullis_gate_refused_total{{layer=\"sendmsg4\",reason=\"{}\"}}",
        audit::text(&line, "reason")
    );
    wait_for(&stage.daemon, &counted, |count| count == 1);
}

#[test]
fn the_executable_of_a_process_that_lives_is_told() {
    let stage = Stage::new();
    let script = "import socket, time
s = socket.socket()
try: s.connect(('198.51.100.9', 99))
except OSError: pass
time.sleep(3)
";
    stage
        .agent()
        .run(&["/usr/bin/python3", "-c", script])
        .expect("runs");
    let refused = |line: &Value| audit::text(line, "destination") == "198.51.100.9:99";
    let line = stage
        .daemon
        .audit_line("the connect", refused)
        .expect("record");
    assert!(
        audit::text(&line, "executable").starts_with("/usr/bin/python3"),
        "{line}"
    );
}

/// Refused connects in one session to a port, one after the other.
fn tries(port: u16, number: u32) -> String {
    format!(
        "import socket
for _ in range({number}):
    s = socket.socket()
    try: s.connect(('198.51.100.9', {port}))
    except OSError: pass
    s.close()
"
    )
}

#[test]
fn a_flood_is_counted_and_takes_no_other_sessions_records() {
    const FLOOD: u64 = 2000;
    let stage = Stage::new();
    let flood = tries(98, 2000);
    let mut other = stage.agent().shell().expect("shell");
    stage
        .agent()
        .run(&["/usr/bin/python3", "-c", &flood])
        .expect("runs");
    let one = format!("/usr/bin/python3 -c \"{}\"", tries(97, 1));
    other.run(&one, LIMIT).expect("runs");

    let alone = |line: &Value| audit::text(line, "destination") == "198.51.100.9:97";
    let line = stage
        .daemon
        .audit_line("the other session's", alone)
        .expect("record");
    assert_eq!(audit::text(&line, "dropped"), "0", "{line}");

    let end = |line: &Value| audit::text(line, "reason").contains("not recorded one by one");
    let end = stage
        .daemon
        .audit_line("the flood's end", end)
        .expect("record");
    let session = audit::text(&end, "session");
    let lines = stage.daemon.audit().expect("record");
    let of_flood = lines
        .iter()
        .filter(|line| audit::is(line, "gate_refused") && audit::text(line, "session") == session);
    let (mut recorded, mut dropped) = (0, 0);
    for line in of_flood {
        recorded += u64::from(!audit::text(line, "destination").is_empty());
        dropped += line["dropped"].as_u64().expect("number");
    }
    let text = metrics(&stage.daemon);
    let lost = value(&text, "portcullis_events_lost_total").expect("lost");
    assert!(recorded <= FLOOD / 4, "{recorded} recorded");
    assert_eq!(
        recorded + dropped + lost,
        FLOOD,
        "{recorded} {dropped} {lost}"
    );
}
