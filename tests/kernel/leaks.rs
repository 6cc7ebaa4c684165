//! No entry outlives its connection, however it ends, or full maps would shut the gate.
//!
//! Seen to fail: with sock_release doing nothing, the connect that fails before its SYN;
//! with the state callback in sock_ops doing nothing, the others.

use crate::bench::Bench;

#[test]
fn a_connection_that_was_accepted() {
    let bench = Bench::new();
    let (_session, mut agent) = bench.session();
    assert_eq!(agent.connect("a", "192.0.2.1:5432"), "ok");
    assert!(bench.settles_at(1));
    let _accepted = bench.accept4();
    assert!(bench.settles_at(0));
}

#[test]
fn a_connection_that_nobody_accepts() {
    let bench = Bench::new();
    let (_session, mut agent) = bench.session();
    assert_eq!(agent.connect("a", "192.0.2.1:5432"), "ok");
    assert_eq!(agent.connect("b", "[2001:db8::1]:5432"), "ok");
    assert!(bench.settles_at(2));
    // Both ends close: the listener's end on accept and drop, without taking the origin.
    drop(agent);
    drop(bench.listener4.accept());
    drop(bench.listener6.accept());
    assert!(bench.settles_at(0));
}

#[test]
fn connects_to_a_dead_listener() {
    let bench = Bench::new();
    let (_session, mut agent) = bench.session();
    let Bench {
        listener4,
        listener6,
        ..
    } = &bench;
    shutdown(listener4);
    shutdown(listener6);
    for to in [
        "192.0.2.1:5432",
        "[2001:db8::1]:5432",
        "[::ffff:192.0.2.1]:5432",
    ] {
        assert_eq!(agent.connect("a", to), "ECONNREFUSED", "{to}");
        assert!(bench.settles_at(0), "{to}");
    }
}

#[test]
fn a_connect_that_fails_before_its_syn() {
    let bench = Bench::new();
    let (_session, mut agent) = bench.session();
    assert_eq!(agent.ask("only6 a"), "ok");
    assert_eq!(agent.ask("again a [::ffff:192.0.2.1]:5432"), "ENETUNREACH");
    assert!(bench.settles_at(1), "the program has let it pass");
    assert_eq!(agent.ask("close a"), "ok");
    assert!(bench.settles_at(0));
}

#[test]
fn a_socket_that_is_disconnected_and_used_again() {
    let bench = Bench::with_connections(1);
    let (_session, mut agent) = bench.session();
    assert_eq!(agent.connect("a", "192.0.2.1:5432"), "ok");
    assert_eq!(agent.ask("disconnect a"), "ok");
    assert!(bench.settles_at(0));
    assert_eq!(agent.ask("again a 192.0.2.1:5432"), "ok");
    assert!(bench.settles_at(1));
}

/// Makes the listener refuse, as if its process were dead.
fn shutdown(listener: &std::net::TcpListener) {
    use nix::sys::socket::{Shutdown, shutdown};
    use std::os::fd::AsRawFd;
    shutdown(listener.as_raw_fd(), Shutdown::Both).expect("shutdown");
}
