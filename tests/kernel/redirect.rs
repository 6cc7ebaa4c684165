//! connect() goes to the gate, and the gate learns who asked for what.
//!
//! Seen to fail: with the rewriting in connect4 or connect6 taken out nothing arrives
//! (nobody is at these addresses); with the tie in sock_ops taken out the origin is
//! missing; with sock_release removing tied entries the early close loses it; with the
//! namespace not asked, the other namespace; with only the pins removed on release, the
//! connect after it.

use std::net::TcpListener;

use portcullis::capture::{NetnsCookie, Reason};
use portcullis::types::PeerAddr;
use portcullis_tests::netns::TestNetns;

use crate::agent::Agent;
use crate::bench::Bench;

#[test]
fn ipv4_arrives_with_its_origin() {
    let bench = Bench::new();
    let (session, mut agent) = bench.session();
    agent.ask("uid 54321");
    assert_eq!(agent.connect("a", "192.0.2.1:5432"), "ok");
    let (_stream, _, origin) = bench.accept4();
    let origin = origin.expect("an origin");
    assert_eq!(origin.dst.addr().to_string(), "192.0.2.1:5432");
    assert_eq!((origin.pid, origin.uid), (agent.pid(), 54321));
    assert_eq!((origin.session, origin.cgroup), (session.id, session.id));
    assert!(origin.comm.starts_with("agent::"), "{}", origin.comm);
}

#[test]
fn ipv6_arrives_with_its_origin() {
    let bench = Bench::new();
    let (session, mut agent) = bench.session();
    assert_eq!(agent.connect("a", "[2001:db8::1]:5432"), "ok");
    let (_stream, _, origin) = bench.accept6();
    let origin = origin.expect("an origin");
    assert_eq!(origin.dst.addr().to_string(), "[2001:db8::1]:5432");
    assert_eq!(origin.session, session.id);
}

#[test]
fn ipv4_mapped_arrives_at_the_ipv4_listener() {
    let bench = Bench::new();
    let (session, mut agent) = bench.session();
    assert_eq!(agent.connect("a", "[::ffff:192.0.2.1]:5432"), "ok");
    let (_stream, peer, origin) = bench.accept4();
    let origin = origin.expect("an origin");
    assert!(peer.0.is_ipv4());
    assert_eq!(origin.dst.addr().to_string(), "192.0.2.1:5432");
    assert_eq!(origin.session, session.id);
}

#[test]
fn a_bound_source_is_found_by_its_own_address() {
    let bench = Bench::new();
    let (_session, mut agent) = bench.session();
    assert_eq!(agent.ask("bind a 127.0.0.77:0"), "ok");
    assert_eq!(agent.ask("again a 192.0.2.1:5432"), "ok");
    let (_stream, peer, origin) = bench.accept4();
    assert_eq!(peer.0.ip().to_string(), "127.0.0.77");
    assert!(origin.is_some());
}

#[test]
fn an_origin_is_given_once_and_only_for_its_own_end() {
    let bench = Bench::new();
    let (_session, mut agent) = bench.session();
    assert_eq!(agent.connect("a", "192.0.2.1:5432"), "ok");
    let (peer, netns) = {
        let (_stream, peer, origin) = bench.accept4();
        assert!(origin.is_some());
        (peer, bench.config.listener.netns)
    };
    let take = |peer, netns| bench.gate().take_origin(peer, netns).expect("the maps");
    assert_eq!(take(peer, netns), None);
    assert_eq!(agent.connect("b", "192.0.2.1:5432"), "ok");
    assert_eq!(
        take(PeerAddr("127.0.0.1:9".parse().expect("literal")), netns),
        None
    );
    assert_eq!(take(peer, NetnsCookie(netns.0 + 1)), None);
    assert!(bench.accept4().2.is_some());
}

#[test]
fn someone_outside_who_finds_the_listener_has_no_origin() {
    let bench = Bench::new();
    let _stranger = std::net::TcpStream::connect(bench.config.listener.v4).expect("connect");
    assert_eq!(bench.accept4().2, None);
}

#[test]
fn a_child_cgroup_belongs_to_its_nearest_session() {
    let bench = Bench::new();
    let (outer, _agent) = bench.session();
    let inner = outer.path.join("inner");
    let leaf = inner.join("leaf");
    std::fs::create_dir_all(&leaf).expect("cgroups");
    let mut agent = Agent::start(&leaf);
    assert_eq!(agent.connect("a", "192.0.2.1:5432"), "ok");
    let origin = bench.accept4().2.expect("an origin");
    let id = |path| portcullis::capture::cgroupfs::id(path).expect("cgroup id");
    assert_eq!((origin.session, origin.cgroup), (outer.id, id(&leaf)));

    bench
        .gate()
        .open_session(id(&inner))
        .expect("open the inner session");
    assert_eq!(agent.connect("b", "192.0.2.1:5432"), "ok");
    assert_eq!(bench.accept4().2.expect("an origin").session, id(&inner));
}

#[test]
fn what_was_sent_before_an_early_close_still_has_its_origin() {
    let bench = Bench::new();
    let (_session, mut agent) = bench.session();
    assert_eq!(agent.connect("a", "192.0.2.1:5432"), "ok");
    assert_eq!(agent.ask("write a cancel"), "ok");
    assert_eq!(agent.ask("close a"), "ok");
    let (mut stream, _, origin) = bench.accept4();
    assert!(origin.is_some());
    let mut text = [0; 6];
    std::io::Read::read_exact(&mut stream, &mut text).expect("read");
    assert_eq!(&text, b"cancel");
}

#[test]
fn a_socket_of_another_network_namespace_is_refused() {
    let mut bench = Bench::new();
    let netns = TestNetns::new().expect("a network namespace");
    let (session, _agent) = bench.session();
    let answer = netns.run(|| {
        let mut agent = Agent::start(&session.path);
        Ok(agent.connect("a", "192.0.2.1:5432"))
    });
    assert_eq!(answer.expect("the namespace"), "ECONNREFUSED");
    assert_eq!(bench.event().reason, Reason::NoListener);
    assert!(bench.is_quiet());
}

#[test]
fn without_an_ipv6_listener_ipv6_is_refused() {
    let mut bench = Bench::new();
    bench.kill_daemon();
    bench.config.listener.v6 = None;
    bench.start();
    let (_session, mut agent) = bench.session();
    assert_eq!(agent.connect("a", "[2001:db8::1]:5432"), "ECONNREFUSED");
    assert_eq!(bench.event().reason, Reason::NoListenerV6);
    assert_eq!(agent.connect("b", "[::ffff:192.0.2.1]:5432"), "ok");
}

#[test]
fn after_release_the_same_connect_goes_where_it_says() {
    let mut bench = Bench::new();
    let sink = TcpListener::bind("127.0.0.1:0").expect("listen");
    sink.set_nonblocking(true).expect("non-blocking");
    let to = sink.local_addr().expect("address");
    bench
        .gate()
        .set_destinations(&[to].into())
        .expect("destinations");
    let (_session, mut agent) = bench.session();
    assert_eq!(agent.connect("a", &to.to_string()), "ok");
    assert_eq!(bench.accept4().2.expect("an origin").dst.addr(), to);

    bench.kill_daemon();
    portcullis::capture::release(&bench.config).expect("release");
    assert_eq!(agent.connect("b", &to.to_string()), "ok");
    sink.accept().expect("the sink has it");
    assert!(bench.is_quiet());
}
