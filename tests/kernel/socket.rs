//! What an ordinary program does with its socket, and what it is told.
//!
//! Seen to fail: with the getpeername programs detached, the names (each run shows it).

use portcullis::capture::Reason;
use serde_json::json;

use crate::bench::Bench;
use crate::escape::Escape;

fn agent(bench: &Bench) -> Escape {
    let (session, _) = bench.session();
    Escape::start_here(&session.path)
}

fn peer_of(agent: &mut Escape, to: &str, port: u16) -> String {
    let answer = agent.ask("peer_name", &json!({ "to": to, "service": port }));
    answer.said.unwrap_or_else(|| panic!("{:?}", answer.errno))
}

#[test]
fn the_peer_is_the_one_that_was_asked_for() {
    let bench = Bench::new();
    let mut agent = agent(&bench);
    let asked = ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"];
    for to in asked {
        assert_eq!(peer_of(&mut agent, to, 5432), format!("{to} 5432"));
    }
    bench.detach("getpeername4");
    bench.detach("getpeername6");
    let gate = bench.config.listener;
    let names = [gate.v4.to_string(), gate.v6.expect("v6").to_string()];
    for (to, gate) in asked.into_iter().zip(names) {
        let seen = peer_of(&mut agent, to, 5432);
        let (host, port) = seen.split_once(' ').expect("two words");
        assert!(
            gate.contains(host) && gate.ends_with(port),
            "{seen}, not {gate}"
        );
    }
}

#[test]
fn options_that_clients_use_are_set() {
    let bench = Bench::new();
    let mut agent = agent(&bench);
    // SO_KEEPALIVE, TCP_NODELAY, IP_TOS; on IPv6 IPV6_V6ONLY and IPV6_TCLASS.
    for (family, level, name) in [(2, 1, 9), (2, 6, 1), (2, 0, 1), (10, 41, 26), (10, 41, 67)] {
        let with = json!({ "family": family, "level": level, "name": name, "value": 1 });
        assert_eq!(agent.ask("option", &with).errno, None, "{level} {name}");
    }
    // Linux before 6.4 gives EFAULT if the program leaves its length as it is; newer ones
    // pass over it.
    assert_eq!(agent.ask("big_option", &json!({})).errno, None);
}

#[test]
fn an_option_that_turns_packets_away_is_refused_and_told() {
    let mut bench = Bench::new();
    let mut agent = agent(&bench);
    // IP_TRANSPARENT.
    let with = json!({ "family": 2, "level": 0, "name": 19, "value": 1 });
    assert_eq!(agent.ask("option", &with).errno.as_deref(), Some("EACCES"));
    let event = bench.event();
    assert_eq!(
        (event.reason, event.hook),
        (Reason::SocketOption, "setsockopt")
    );
    assert_eq!((event.option, event.dst), (Some((0, 19)), None));
    assert_eq!((event.family, event.kind, event.protocol), (2, 1, 6));
}

#[test]
fn a_packet_that_is_dropped_is_told() {
    let mut bench = Bench::new();
    let (session, _) = bench.session();
    let mut agent = Escape::start_here(&session.path);
    bench.detach("sendmsg4");
    let with = json!({ "v4": "127.0.0.1", "port": 9, "token": "x" });
    let answer = agent.ask("udp_sendto", &with);
    assert_eq!(answer.errno.as_deref(), Some("EPERM"));
    let event = bench.event();
    assert_eq!((event.reason, event.hook), (Reason::Packet, "egress"));
    assert_eq!(event.dst.expect("a destination").to_string(), "127.0.0.1:9");
    assert_eq!((event.protocol, event.session), (17, Some(session.id)));
    assert_eq!(event.cgroup, session.id);
}

#[test]
fn the_gates_port_is_refused_and_told() {
    let mut bench = Bench::new();
    let mut agent = agent(&bench);
    let (v4, v6) = (
        bench.config.listener.v4,
        bench.config.listener.v6.expect("v6"),
    );
    let with = json!({ "gate4": v4.port(), "gate6": v6.port() });
    bench.listener4 = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let answer = agent.ask("bind_gate_port", &with);
    assert_eq!(answer.errno.as_deref(), Some("EACCES"));
    let event = bench.event();
    assert_eq!((event.reason, event.hook), (Reason::GatePort, "post_bind4"));
    assert_eq!(event.dst.expect("an address").addr(), v4.into());
}
