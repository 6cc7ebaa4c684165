//! Ways out of the gate, one test each; what docs/gate.md says of them is made from here.
//!
//! Each is tried as root and as an ordinary user with all hooks in force, and must be
//! refused at once with nothing seen at the other end. Then each layer that closes it is
//! left alone: it must hold by itself. Then that one is detached as well, and the route
//! must be open: so each of these tests has been seen to fail, in each run of it.

mod document;
mod elsewhere;
mod stage;

use stage::{From, Stage, Who};

/// One way out.
pub struct Route {
    /// Of the test, and of the function in `escape.py`.
    pub name: &'static str,
    /// For people.
    pub what: &'static str,
    /// The hooks that close it, each by itself.
    pub closed_by: &'static [&'static str],
    /// How it shows that the route is open.
    pub seen: Seen,
    /// What an ordinary user gets where no hook closes it.
    pub user: User,
}

/// Where and as what the try would be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// At the far end: a frame with the token in it.
    Token,
    /// A packet to the port that was tried.
    Port,
    /// A packet of this protocol.
    Protocol(u8),
    /// An IGMP report of the group.
    Group4,
    /// An MLD report of the group.
    Group6,
    /// By a server beside the agent, outside its session.
    Local,
    LocalUdp,
    /// By a helper on a unix socket; `@` is an abstract one.
    Unix(&'static str),
    /// The bind() itself.
    Bound,
    /// By the agent, which is called from there.
    Inbound(From),
}

/// What an ordinary user can do without the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    Open,
    /// The kernel itself says no.
    Refused(&'static str),
}

use Seen::{
    Bound, Group4, Group6, Inbound, Local, LocalUdp, Port, Protocol, Token, Unix as UnixSocket,
};
use User::{Open, Refused};

macro_rules! routes {
    ($($name:ident: $what:literal, [$($by:literal),+], $seen:expr, $user:expr;)*) => {
        /// All of them.
        pub const ROUTES: &[Route] = &[$(Route {
            name: stringify!($name),
            what: $what,
            closed_by: &[$($by),+],
            seen: $seen,
            user: $user,
        }),*];
        mod each {$(
            #[test]
            fn $name() {
                let name = stringify!($name);
                let route = super::ROUTES.iter().find(|route| route.name == name);
                super::check(route.expect("it is in the table"));
            }
        )*}
    };
}

routes! {
    tcp_v4: "TCP by IPv4", ["connect4", "egress"], Port, Open;
    tcp_v6: "TCP by IPv6", ["connect6", "egress"], Port, Open;
    tcp_mapped: "TCP by an IPv4-mapped address", ["connect6", "egress"], Port, Open;
    tcp_bound_source: "TCP from a bound source address", ["connect4", "egress"], Port, Open;
    tcp_bind_to_device: "TCP, SO_BINDTODEVICE", ["setsockopt", "connect4", "egress"], Protocol(6), Open;
    tcp_nonblocking: "TCP, non-blocking connect()", ["connect4", "egress"], Port, Open;
    tcp_fastopen_sendto: "TCP fast open by sendto()", ["connect4", "egress"], Port, Open;
    tcp_fastopen_option: "TCP fast open by option", ["connect4", "egress"], Port, Open;
    mptcp: "MPTCP", ["sock_create", "connect4", "egress"], Port, Open;
    tcp_mark: "TCP with SO_MARK", ["connect4", "egress"], Port, Refused("EPERM");
    tcp_unspec_reconnect: "TCP, connected to a service, AF_UNSPEC, connected again", ["connect4", "egress"], Port, Open;
    tcp_loopback: "TCP to a server on 127.0.0.1", ["connect4", "egress", "ingress"], Local, Open;
    tcp_own_address: "TCP to a server on the host's own address", ["connect4", "egress", "ingress"], Local, Open;
    tcp_source_route: "TCP with a source route in IP_OPTIONS, the address being the gate's", ["setsockopt", "egress"], Protocol(6), Refused("EPERM");
    tcp_routing_header: "TCP with an IPv6 routing header, the address being the gate's", ["setsockopt", "egress"], Protocol(43), Open;
    udp_sendto: "UDP sendto()", ["sendmsg4", "egress"], Token, Open;
    udp_sendto_v6: "UDP sendto() by IPv6", ["sendmsg6", "egress"], Token, Open;
    udp_sendto_mapped: "UDP sendto() to an IPv4-mapped address", ["sendmsg4", "egress"], Token, Open;
    udp_sendmsg: "UDP sendmsg()", ["sendmsg4", "egress"], Token, Open;
    udp_connected: "UDP, connected", ["connect4", "egress"], Token, Open;
    udp_connected_v6: "UDP by IPv6, connected", ["connect6", "egress"], Token, Open;
    udp_broadcast: "UDP broadcast", ["sendmsg4", "egress"], Token, Open;
    udp_multicast: "UDP multicast", ["sendmsg4", "egress"], Token, Open;
    udp_multicast_v6: "UDP multicast by IPv6", ["sendmsg6", "egress"], Token, Open;
    udp_pktinfo: "UDP with IP_PKTINFO", ["sendmsg4", "egress"], Token, Open;
    udp_unicast_if: "UDP with IP_UNICAST_IF", ["setsockopt", "sendmsg4", "egress"], Token, Open;
    udp_cmsg_source_route: "UDP to 127.0.0.1 with a source route as control message", ["sendmsg4", "egress"], Token, Refused("EPERM");
    udp_loopback: "UDP to a server on 127.0.0.1 (a DNS stub)", ["sendmsg4", "egress"], LocalUdp, Open;
    join_igmp: "joining a group: the kernel's IGMP report", ["setsockopt"], Group4, Open;
    join_mld: "joining a group: the kernel's MLD report", ["setsockopt"], Group6, Open;
    udplite: "UDP-Lite sendto()", ["sock_create", "sendmsg4", "egress"], Token, Open;
    udplite_connected: "UDP-Lite, connected", ["sock_create", "egress"], Token, Open;
    ping: "ping socket", ["sock_create", "egress"], Token, Open;
    ping_v6: "ping socket by IPv6", ["sock_create", "egress"], Token, Open;
    raw: "raw socket", ["sock_create", "egress"], Token, Refused("EPERM");
    raw_v6: "raw socket by IPv6", ["sock_create", "egress"], Token, Refused("EPERM");
    raw_header: "raw socket, own header with a false source", ["sock_create", "egress"], Token, Refused("EPERM");
    sctp: "SCTP", ["sock_create", "egress"], Port, Open;
    dccp: "DCCP", ["sock_create", "connect4", "egress"], Port, Open;
    uring_connect: "io_uring connect", ["connect4", "egress"], Port, Open;
    uring_sendmsg: "io_uring sendmsg, UDP", ["sendmsg4", "egress"], Token, Open;
    uring_fastopen_sendmsg: "io_uring sendmsg, TCP fast open", ["connect4", "egress"], Port, Open;
    uring_socket: "io_uring socket, raw", ["sock_create", "egress"], Token, Refused("EPERM");
    listen_tcp: "inbound: a TCP listener of the agent", ["ingress", "egress"], Inbound(From::Far), Open;
    listen_tcp_v6: "inbound: the same by IPv6", ["ingress", "egress"], Inbound(From::FarV6), Open;
    listen_udp: "inbound: a UDP socket of the agent", ["ingress"], Inbound(From::FarUdp), Open;
    unix_stream: "unix stream socket of a helper, path", ["unix_connect"], UnixSocket("stream"), Open;
    unix_dgram_sendto: "unix datagram to a helper, path", ["unix_sendmsg"], UnixSocket("dgram"), Open;
    unix_dgram_connect: "unix datagram socket, connected, abstract", ["unix_connect"], UnixSocket("@dgram"), Open;
    bind_gate_port: "taking the gate's port while the daemon is dead", ["post_bind4"], Bound, Open;
    bind_gate_port_v6: "the same by IPv6", ["post_bind6"], Bound, Open;
}

/// A kernel without the protocol says so when the socket is made.
const ABSENT: [&str; 3] = ["EPROTONOSUPPORT", "ESOCKTNOSUPPORT", "EAFNOSUPPORT"];
/// Those that a kernel in use may lack.
const MAY_BE_ABSENT: [&str; 4] = ["sctp", "dccp", "udplite", "udplite_connected"];

fn check(route: &Route) {
    let mut stage = Stage::new();
    for who in [Who::Root, Who::User] {
        let (answer, saw) = stage.attempt(route, who, false);
        assert!(!saw, "{} as {who:?} got out: {answer:?}", route.name);
        if !matches!(route.seen, Inbound(_)) {
            assert!(answer.errno.is_some(), "{who:?} was not refused");
            assert_ne!(answer.errno.as_deref(), Some("ETIMEDOUT"), "{who:?}");
            assert!(answer.ms < 300.0, "not at once: {answer:?}");
        }
    }
    for alone in route.closed_by {
        stage.bench.restore();
        for other in route.closed_by.iter().filter(|other| *other != alone) {
            stage.bench.detach(other);
        }
        let (answer, saw) = stage.attempt(route, Who::Root, false);
        assert!(!saw, "{} got past {alone} alone: {answer:?}", route.name);
    }
    if let Some(last) = route.closed_by.last() {
        stage.bench.detach(last);
    }
    opens(&mut stage, route);
}

/// With the layers gone, the route is a way out, or the test would prove nothing.
fn opens(stage: &mut Stage, route: &Route) {
    let (answer, saw) = stage.attempt(route, Who::Root, true);
    let errno = answer.errno.as_deref();
    if MAY_BE_ABSENT.contains(&route.name) && errno.is_some_and(|errno| ABSENT.contains(&errno)) {
        println!("{}: not on this kernel ({errno:?})", route.name);
        return;
    }
    let by = route.closed_by;
    assert!(saw, "{} is shut without {by:?}: {answer:?}", route.name);
    let (answer, saw) = stage.attempt(route, Who::User, route.user == Open);
    match route.user {
        Open => assert!(saw, "shut to users without {by:?}: {answer:?}"),
        Refused(errno) => assert_eq!((saw, answer.errno.as_deref()), (false, Some(errno))),
    }
    println!("{}: closed by {by:?}, open without", route.name);
}
