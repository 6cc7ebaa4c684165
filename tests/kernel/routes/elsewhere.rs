//! Ways out that no cgroup hook sees: sockets of other families. The launcher's seccomp
//! filter and BPF LSM close them; what is shown here is that the hooks do not, so that
//! nobody relies on them for it.

use serde_json::json;

use super::stage::{Stage, Who};
use super::{ABSENT, Route, Seen, User};

/// One of them.
pub struct Elsewhere {
    /// For people.
    pub what: &'static str,
    family: i32,
    kind: i32,
    proto: i32,
}

const fn family(what: &'static str, family: i32, kind: i32, proto: i32) -> Elsewhere {
    Elsewhere {
        what,
        family,
        kind,
        proto,
    }
}

const STREAM: i32 = 1;
const DGRAM: i32 = 2;
const RAW: i32 = 3;
const SEQPACKET: i32 = 5;

/// All of them, with a socket that each family has.
pub const ELSEWHERE: &[Elsewhere] = &[
    family("AF_PACKET: whole frames", 17, RAW, 0),
    family("AF_VSOCK: the hypervisor", 40, STREAM, 0),
    family("AF_NETLINK, user socket: other processes", 16, RAW, 2),
    family("AF_XDP: frames past the stack", 44, RAW, 0),
    family("AF_ALG: the kernel's ciphers", 38, SEQPACKET, 0),
    family("TIPC", 30, STREAM, 0),
    family("RDS", 21, SEQPACKET, 0),
    family("KCM", 41, DGRAM, 0),
    family("SMC", 43, STREAM, 0),
    family("Bluetooth", 31, RAW, 1),
    family("QIPCRTR", 42, DGRAM, 0),
    family("PPPoX", 24, STREAM, 0),
    family("CAN", 29, RAW, 1),
    family("NFC", 39, RAW, 0),
    family("LLC", 26, STREAM, 0),
];

#[test]
fn other_families_are_not_the_cgroup_hooks_to_close() {
    let mut stage = Stage::new();
    for entry in ELSEWHERE {
        let with = json!({
            "family": entry.family, "kind": entry.kind, "proto": entry.proto,
        });
        let held = stage.ask(Who::Root, "family", &with).errno;
        let free = stage.ask_outside("family", &with).errno;
        assert_eq!(held, free, "{}", entry.what);
        let has_it = free.as_deref().is_none_or(|errno| !ABSENT.contains(&errno));
        let found = if has_it {
            "open to the hooks"
        } else {
            "not on this kernel"
        };
        println!("{}: {found} ({free:?})", entry.what);
    }
}

/// The strongest of them, to the end: a frame of a root agent reaches the far side with
/// all hooks in force. An ordinary user may not make such a socket.
#[test]
fn packet_sockets_are_not_the_cgroup_hooks_to_close() {
    let mut stage = Stage::new();
    let route = Route {
        name: "packet",
        what: "",
        closed_by: &[],
        seen: Seen::Token,
        user: User::Refused("EPERM"),
    };
    let (answer, saw) = stage.attempt(&route, Who::Root, true);
    assert!(
        saw,
        "closed by now? then say so in docs/gate.md: {answer:?}"
    );
    let (answer, saw) = stage.attempt(&route, Who::User, false);
    assert_eq!((saw, answer.errno.as_deref()), (false, Some("EPERM")));
}
