//! What the gate must survive: things that vanish, fill up, or were never set up.
//!
//! Seen to fail: with UNIX_ALLOWED and SESSIONS larger than the loops, the full maps; with
//! `current` giving some session for none, the cgroup without one.

use std::io::{Read, Write};

use portcullis::capture::{Adopted, Gate, Reason, UnixAddress, cgroupfs};
use portcullis::types::{CgroupId, SessionId};
use portcullis_tests::leftovers::is_mount_point;
use portcullis_tests::netns::TestNetns;
use serde_json::json;

use crate::agent::Agent;
use crate::bench::Bench;
use crate::escape::Escape;

/// The sockets of a session keep its hooks when its cgroup is gone and their process has
/// been moved out: what is up goes on, and nothing new begins.
#[test]
fn a_cgroup_that_is_removed_under_its_connections() {
    let mut bench = Bench::new();
    let (session, mut agent) = bench.session();
    assert_eq!(agent.ask("bind idle 127.0.0.1:0"), "ok");
    assert_eq!(agent.connect("live", "192.0.2.1:5432"), "ok");
    let (mut stream, ..) = bench.accept4();
    let outside = bench.cgroup.path().parent().expect("the mount");
    cgroupfs::move_process(outside, agent.pid()).expect("move it out");
    cgroupfs::remove(&session.path).expect("remove the cgroup");

    assert_eq!(agent.ask("write live still"), "ok");
    let mut text = [0; 5];
    stream.read_exact(&mut text).expect("read");
    stream.write_all(b"here").expect("write");
    assert_eq!(&text, b"still");
    assert_eq!(agent.ask("again idle 192.0.2.1:5432"), "ECONNREFUSED");
    assert_eq!(bench.event().reason, Reason::NoSession);
    assert_eq!(agent.ask("close live"), "ok");
    assert!(bench.settles_at(0));
}

#[test]
fn more_sessions_than_the_map_holds() {
    let mut bench = Bench::new();
    let (_session, mut agent) = bench.session();
    let gate = bench.gate();
    let open = |number: u64| gate.open_session(CgroupId((1 << 60) + number));
    let refused = (0..=16_384).find_map(|number| open(number).err());
    let text = refused.expect("the map is full").to_string();
    assert!(text.contains("SESSIONS"), "{text}");

    let late = gate.create_session_cgroup(gate.enforced(), &SessionId::random());
    let late = late.expect("a cgroup");
    assert!(gate.open_session(late.id).is_err());
    let mut latecomer = Agent::start(&late.path);
    assert_eq!(latecomer.connect("a", "192.0.2.1:5432"), "ECONNREFUSED");
    assert_eq!(bench.event().reason, Reason::NoSession);
    assert_eq!(
        agent.connect("a", "192.0.2.1:5432"),
        "ok",
        "who was first stays"
    );
    // One that ends makes room.
    let gate = bench.gate();
    gate.forget_session(CgroupId(1 << 60)).expect("close");
    gate.open_session(late.id).expect("open");
    assert_eq!(latecomer.connect("b", "192.0.2.1:5432"), "ok");
}

#[test]
fn more_unix_addresses_than_the_map_holds() {
    let bench = Bench::new();
    let (session, _agent) = bench.session();
    let list: Vec<UnixAddress> = (0..=16_384)
        .map(|number| UnixAddress::abstract_name(format!("{number}").as_bytes()))
        .collect::<Result<_, _>>()
        .expect("names");
    let full = bench.gate().set_unix_allowed(session.id, &list);
    let text = full.expect_err("the map is full").to_string();
    assert!(text.contains("UNIX_ALLOWED"), "{text}");
    // What did get in is known, and can be taken out.
    bench
        .gate()
        .set_unix_allowed(session.id, &[])
        .expect("none");
    let list = list.get(..16_384).expect("a part");
    bench
        .gate()
        .set_unix_allowed(session.id, list)
        .expect("all of it");
}

#[test]
fn a_network_namespace_that_is_gone() {
    let mut bench = Bench::new();
    let netns = TestNetns::new().expect("a network namespace");
    let (session, _agent) = bench.session();
    let mut agent = netns
        .run(|| Ok(Agent::start(&session.path)))
        .expect("inside");
    drop(netns);
    assert_eq!(agent.connect("a", "192.0.2.1:5432"), "ECONNREFUSED");
    assert_eq!(bench.event().reason, Reason::NoListener);
    drop(agent);
    // A new one is not taken for the old.
    let next = TestNetns::new().expect("a network namespace");
    let mut agent = next
        .run(|| Ok(Agent::start(&session.path)))
        .expect("inside");
    assert_eq!(agent.connect("a", "192.0.2.1:5432"), "ECONNREFUSED");
    bench.restore();
    assert_eq!(agent.connect("b", "192.0.2.1:5432"), "ECONNREFUSED");
}

#[test]
fn a_bpf_file_system_that_is_not_mounted() {
    let mut bench = Bench::new();
    assert!(is_mount_point(bench.bpffs.path()), "the start mounts it");
    bench.kill_daemon();
    nix::mount::umount(bench.bpffs.path()).expect("umount");
    // All pins went with it. The next start puts everything up anew.
    bench.start();
    assert_eq!(bench.gate().adopted(), Adopted::Fresh);
    let mut agent = Agent::start(bench.cgroup.path());
    assert_eq!(agent.connect("a", "192.0.2.1:5432"), "ECONNREFUSED");

    bench.kill_daemon();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut config = bench.config.clone();
    config.bpffs = file.path().to_owned();
    let text = Gate::start(&config).expect_err("a file").to_string();
    assert!(text.contains(&file.path().display().to_string()), "{text}");
}

#[test]
fn a_cgroup_without_a_session() {
    let bench = Bench::new();
    let path = bench.cgroup.path().join("unbound");
    std::fs::create_dir(&path).expect("mkdir");
    let sink = std::net::UdpSocket::bind("127.0.0.1:0").expect("bind");
    sink.set_nonblocking(true).expect("non-blocking");
    let port = sink.local_addr().expect("an address").port();
    let directory = tempfile::tempdir().expect("a directory");
    let unix = directory.path().join("helper");
    let helper = std::os::unix::net::UnixListener::bind(&unix).expect("bind");
    helper.set_nonblocking(true).expect("non-blocking");
    let mut agent = Escape::start_here(&path);
    let with = json!({
        "v4": "127.0.0.1", "v6": "::1", "own4": "127.0.0.1", "local": 1, "service": 1,
        "port": port, "local_udp": port, "token": "x", "unix": unix.display().to_string(),
    });
    for route in [
        "tcp_loopback",
        "tcp_v6",
        "tcp_fastopen_sendto",
        "udp_sendto",
        "udp_connected",
        "udp_loopback",
        "raw",
        "ping",
        "mptcp",
        "unix_stream",
        "uring_connect",
        "uring_sendmsg",
    ] {
        let answer = agent.ask(route, &with);
        assert!(
            answer.errno.is_some() && answer.ms < 300.0,
            "{route}: {answer:?}"
        );
    }
    assert!(sink.recv(&mut [0; 10]).is_err() && helper.accept().is_err());
    assert!(bench.is_quiet());
}
