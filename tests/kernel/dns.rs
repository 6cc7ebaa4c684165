//! Queries by UDP go to the gate's resolver, with who asked; other datagrams go nowhere.
//!
//! Seen to fail: without the branches in connect4 and connect6 the connected sockets are
//! refused, without those in sendmsg4 and sendmsg6 the others; without egress filing it
//! there is no asker; without the forgetting in sock_release the asker outlives its socket;
//! without recvmsg4 and recvmsg6 the answer comes from the gate's own address.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use portcullis::capture::{Asker, AskerSource, Reason};
use portcullis::types::PeerAddr;

use crate::agent::Agent;
use crate::bench::Bench;

/// A bench with a resolver that answers nothing by itself.
struct Resolver {
    bench: Bench,
    v4: UdpSocket,
    v6: UdpSocket,
}

impl Resolver {
    fn new() -> Self {
        let mut bench = Bench::new();
        let open = |at: &str| {
            let socket = UdpSocket::bind(at).expect("bind");
            let limit = Some(Duration::from_secs(1));
            socket.set_read_timeout(limit).expect("time limit");
            socket
        };
        let (v4, v6) = (open("127.0.0.1:0"), open("[::1]:0"));
        bench.kill_daemon();
        bench.config.listener.dns4 = Some(port(&v4));
        bench.config.listener.dns6 = Some(port(&v6));
        bench.start();
        Self { bench, v4, v6 }
    }

    /// The next query and who sent it; `answer` goes back.
    fn serve(&self, socket: &UdpSocket, answer: &str) -> (String, Option<Asker>, SocketAddr) {
        let mut buffer = [0; 64];
        let (length, peer) = socket.recv_from(&mut buffer).expect("a query");
        let asker = self.asker(peer);
        socket.send_to(answer.as_bytes(), peer).expect("answer");
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        (text, asker, peer)
    }

    fn asker(&self, peer: SocketAddr) -> Option<Asker> {
        let netns = self.bench.config.listener.netns;
        let gate = self.bench.gate();
        gate.asker(PeerAddr(peer), netns).expect("the maps")
    }

    fn is_quiet(&self) -> bool {
        let quiet = |socket: &UdpSocket| {
            socket.set_nonblocking(true).expect("non-blocking");
            socket.recv_from(&mut [0; 8]).is_err()
        };
        quiet(&self.v4) && quiet(&self.v6)
    }
}

fn port(socket: &UdpSocket) -> u16 {
    socket.local_addr().expect("address").port()
}

fn asks(agent: &mut Agent, how: &str, to: &str) {
    assert_eq!(agent.ask(&format!("{how} q {to}")), "ok", "{how} {to}");
}

#[test]
fn a_connected_socket_reaches_the_resolver_and_sees_whom_it_asked() {
    let resolver = Resolver::new();
    let (session, mut agent) = resolver.bench.session();
    for (to, socket) in [
        ("198.51.100.53:53", &resolver.v4),
        ("[2001:db8::53]:53", &resolver.v6),
        ("[::ffff:198.51.100.53]:53", &resolver.v4),
        ("127.0.0.53:53", &resolver.v4),
    ] {
        asks(&mut agent, "ask-connected", to);
        let (text, asker, _) = resolver.serve(socket, "reply");
        assert_eq!(text, "query", "{to}");
        let asker = asker.expect("an asker");
        assert_eq!((asker.session, asker.pid), (session.id, agent.pid()));
        let plain = to.replace("[::ffff:198.51.100.53]", "198.51.100.53");
        assert_eq!(asker.resolver.addr().to_string(), plain);
        assert_eq!(agent.ask("answer q"), format!("reply {to} {to}"));
    }
}

#[test]
fn an_unconnected_socket_reaches_the_resolver_and_sees_whom_it_asked() {
    let resolver = Resolver::new();
    let (session, mut agent) = resolver.bench.session();
    for (to, socket) in [
        ("198.51.100.53:53", &resolver.v4),
        ("[2001:db8::53]:53", &resolver.v6),
        ("[::ffff:198.51.100.53]:53", &resolver.v4),
    ] {
        asks(&mut agent, "ask", to);
        let (text, asker, _) = resolver.serve(socket, "reply");
        assert_eq!(text, "query", "{to}");
        assert_eq!(asker.expect("an asker").session, session.id);
        assert_eq!(agent.ask("answer q"), format!("reply {to} -"));
    }
}

#[test]
fn an_asker_ends_with_its_socket() {
    let resolver = Resolver::new();
    let (_session, mut agent) = resolver.bench.session();
    asks(&mut agent, "ask", "198.51.100.53:53");
    let (_, asker, peer) = resolver.serve(&resolver.v4, "reply");
    assert!(asker.is_some() && resolver.asker(peer).is_some());
    assert_eq!(agent.ask("close q"), "ok");
    assert_eq!(resolver.asker(peer), None);
    // Whoever takes the port now asks in nobody's name.
    let stranger = UdpSocket::bind(("127.0.0.1", peer.port())).expect("the same port");
    let to = resolver.v4.local_addr().expect("address");
    stranger.send_to(b"query", to).expect("send");
    assert_eq!(resolver.serve(&resolver.v4, "reply").1, None);
}

#[test]
fn two_sessions_are_told_apart() {
    let resolver = Resolver::new();
    let (first, mut a) = resolver.bench.session();
    let (second, mut b) = resolver.bench.session();
    for _ in 0..3 {
        asks(&mut a, "ask-connected", "198.51.100.53:53");
        asks(&mut b, "ask-connected", "198.51.100.53:53");
        let who = || resolver.serve(&resolver.v4, "reply").1.expect("an asker");
        assert_eq!((who().session, who().session), (first.id, second.id));
    }
}

#[test]
fn other_ports_and_kinds_are_refused_at_once() {
    let mut resolver = Resolver::new();
    let (_session, mut agent) = resolver.bench.session();
    for to in [
        "198.51.100.53:54",
        "198.51.100.53:443",
        "[2001:db8::53]:5353",
    ] {
        assert_eq!(agent.ask(&format!("ask q {to}")), "ECONNREFUSED");
        assert_eq!(resolver.bench.event().reason, Reason::Datagram);
        assert_eq!(agent.ask(&format!("ask-connected q {to}")), "ECONNREFUSED");
        assert_eq!(resolver.bench.event().reason, Reason::NotTcp);
    }
    assert!(resolver.is_quiet());
}

#[test]
fn without_a_session_or_a_resolver_queries_are_refused() {
    let mut resolver = Resolver::new();
    let cgroup = resolver.bench.cgroup.path().join("unbound");
    std::fs::create_dir(&cgroup).expect("cgroup");
    let mut agent = Agent::start(&cgroup);
    assert_eq!(agent.ask("ask q 198.51.100.53:53"), "ECONNREFUSED");
    assert_eq!(resolver.bench.event().reason, Reason::NoSession);

    resolver.bench.kill_daemon();
    resolver.bench.config.listener.dns4 = None;
    resolver.bench.config.listener.dns6 = None;
    resolver.bench.start();
    let (_session, mut agent) = resolver.bench.session();
    for to in ["198.51.100.53:53", "[2001:db8::53]:53"] {
        assert_eq!(agent.ask(&format!("ask-connected q {to}")), "ECONNREFUSED");
    }
    assert!(resolver.is_quiet());
}

#[test]
fn a_dead_resolver_is_noticed_at_once() {
    let resolver = Resolver::new();
    let (_session, mut agent) = resolver.bench.session();
    drop(resolver.v4);
    asks(&mut agent, "ask-connected", "198.51.100.53:53");
    // The host's own ICMP may be dropped on its way in: then the resolver's own time-out
    // ends the wait. What counts is that nothing leaves.
    let answer = agent.ask("answer q");
    assert!(answer == "ECONNREFUSED" || answer == "EAGAIN", "{answer}");
}

#[test]
fn tcp_to_port_53_goes_to_the_gate() {
    let resolver = Resolver::new();
    let (session, mut agent) = resolver.bench.session();
    assert_eq!(agent.connect("a", "198.51.100.53:53"), "ok");
    let origin = resolver.bench.accept4().2.expect("an origin");
    assert_eq!(origin.session, session.id);
    assert_eq!(origin.dst.addr().to_string(), "198.51.100.53:53");
}
