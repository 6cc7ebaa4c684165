//! What is refused, with which errno and which event.
//!
//! Seen to fail: with sendmsg4 letting go, the datagrams; with sock_create letting go, the
//! kinds of socket; with DESTINATIONS not asked, the destination; with the session not
//! asked, both sessions; with the insertion's error ignored, the full map.

use portcullis::capture::{Reason, cgroupfs};

use crate::agent::Agent;
use crate::bench::Bench;

#[test]
fn a_destination_that_no_service_has() {
    let mut bench = Bench::new();
    let (session, mut agent) = bench.session();
    let own = bench.config.listener.v4.to_string();
    let mapped = format!("[::ffff:127.0.0.1]:{}", bench.config.listener.v4.port());
    for to in [
        "192.0.2.1:5433",
        "192.0.2.2:5432",
        "[2001:db8::2]:5432",
        &own,
        &mapped,
        "0.0.0.0:1",
    ] {
        assert_eq!(agent.connect("a", to), "ECONNREFUSED", "{to}");
        let event = bench.event();
        assert_eq!(event.reason, Reason::UnknownDestination, "{to}");
        assert_eq!((event.session, event.pid), (Some(session.id), agent.pid()));
        assert_eq!((event.kind, event.protocol), (1, 6));
        let wanted = portcullis::types::OrigDst::new(to.parse().expect("literal"));
        assert_eq!(event.dst, Some(wanted));
    }
    assert!(bench.is_quiet());
}

#[test]
fn a_process_in_no_session() {
    let mut bench = Bench::new();
    let mut agent = Agent::start(bench.cgroup.path());
    assert_eq!(agent.connect("a", "192.0.2.1:5432"), "ECONNREFUSED");
    let event = bench.event();
    assert_eq!((event.reason, event.session), (Reason::NoSession, None));
    assert_eq!(event.cgroup, cgroupfs::id(bench.cgroup.path()).expect("id"));
}

#[test]
fn a_session_that_was_closed() {
    let mut bench = Bench::new();
    let (session, mut agent) = bench.session();
    assert_eq!(bench.gate().sessions().expect("the map"), [session.id]);
    bench.gate().forget_session(session.id).expect("close");
    assert_eq!(agent.connect("a", "192.0.2.1:5432"), "ECONNREFUSED");
    assert_eq!(bench.event().reason, Reason::NoSession);
    bench
        .gate()
        .forget_session(session.id)
        .expect("twice is no error");
}

#[test]
fn a_process_too_deep_for_its_session_to_be_found() {
    let mut bench = Bench::new();
    let (session, _agent) = bench.session();
    // The session's cgroup is at level 2 of the tree; 15 is the deepest that is looked at.
    let level_15 = (3..=15).fold(session.path.clone(), |path, _| path.join("d"));
    let level_16 = level_15.join("d");
    std::fs::create_dir_all(&level_16).expect("cgroups");
    let mut agent = Agent::start(&level_15);
    assert_eq!(agent.connect("a", "192.0.2.1:5432"), "ok");
    let mut agent = Agent::start(&level_16);
    assert_eq!(agent.connect("a", "192.0.2.1:5432"), "ECONNREFUSED");
    assert_eq!(bench.event().reason, Reason::TooDeep);
}

#[test]
fn datagrams() {
    let mut bench = Bench::new();
    let (_session, mut agent) = bench.session();
    for to in [
        "192.0.2.1:5432",
        "[2001:db8::1]:5432",
        "127.0.0.1:5353",
        "[::ffff:127.0.0.1]:5353",
    ] {
        assert_eq!(agent.ask(&format!("sendto {to}")), "ECONNREFUSED", "{to}");
        let event = bench.event();
        assert_eq!((event.reason, event.kind), (Reason::Datagram, 2), "{to}");
        assert_eq!(
            agent.ask(&format!("udp-connect {to}")),
            "ECONNREFUSED",
            "{to}"
        );
        assert_eq!(bench.event().reason, Reason::NotTcp, "{to}");
    }
}

#[test]
fn sockets_that_are_neither_tcp_nor_udp() {
    let mut bench = Bench::new();
    let (session, mut agent) = bench.session();
    for kind in [
        "inet raw icmp",
        "inet stream mptcp",
        "inet dgram udplite",
        "inet6 raw udp",
    ] {
        assert_eq!(agent.ask(&format!("socket {kind}")), "EACCES", "{kind}");
        let event = bench.event();
        assert_eq!(event.reason, Reason::SocketKind, "{kind}");
        assert_eq!((event.session, event.dst), (Some(session.id), None));
    }
    for kind in [
        "inet stream 0",
        "inet6 stream tcp",
        "inet dgram 0",
        "inet6 dgram udp",
    ] {
        assert_eq!(agent.ask(&format!("socket {kind}")), "ok", "{kind}");
    }
}

#[test]
fn name_lookup_of_literal_addresses_goes_on() {
    let bench = Bench::new();
    let (_session, mut agent) = bench.session();
    for host in ["192.0.2.1", "2001:db8::1"] {
        assert_eq!(agent.ask(&format!("resolve {host}")), "ok 1");
    }
}

#[test]
fn one_connection_more_than_the_map_holds() {
    let mut bench = Bench::with_connections(4);
    let (_session, mut agent) = bench.session();
    for name in ["a", "b", "c", "d"] {
        assert_eq!(agent.connect(name, "192.0.2.1:5432"), "ok");
    }
    assert_eq!(agent.connect("e", "192.0.2.1:5432"), "ECONNREFUSED");
    assert_eq!(bench.event().reason, Reason::MapFull);
    // One accepted makes room for one.
    assert!(bench.accept4().2.is_some());
    assert_eq!(agent.connect("f", "192.0.2.1:5432"), "ok");
}

#[test]
fn events_wake_an_asynchronous_reader() {
    let mut bench = Bench::new();
    let (_session, mut agent) = bench.session();
    let mut events = bench.events.take().expect("events");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    let event = runtime.block_on(async {
        let late = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            agent.connect("a", "192.0.2.9:1")
        });
        let event = tokio::time::timeout(std::time::Duration::from_secs(5), events.next()).await;
        assert_eq!(late.join().expect("agent"), "ECONNREFUSED");
        event.expect("in time").expect("an event")
    });
    assert_eq!(event.reason, Reason::UnknownDestination);
    assert_eq!(events.lost().expect("the map"), 0);
}
