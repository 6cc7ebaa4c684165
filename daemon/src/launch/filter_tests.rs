//! The filter's program, run by a small machine for classic BPF.

use super::*;
use crate::launch::machine::{ALLOW, ENOSYS, EPERM, HERE, I386, KILL, answer};

fn plain(call: i64, arguments: &[u64]) -> u32 {
    answer(&program(false).expect("program"), HERE, call, arguments)
}

fn socket(family: i32, kind: i32, protocol: i32) -> u32 {
    let arguments = [family, kind, protocol].map(|word| u64::from(word.cast_unsigned()));
    plain(libc::SYS_socket, &arguments)
}

#[test]
fn sockets_that_the_gate_understands_are_made() {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    for family in [libc::AF_INET, libc::AF_INET6] {
        for (kind, protocol) in [(1, 0), (1, 6), (2, 0), (2, 17)] {
            assert_eq!(socket(family, kind, protocol), ALLOW, "{family} {kind}");
            assert_eq!(socket(family, kind | flags, protocol), ALLOW);
        }
    }
    for kind in [1, 2, 5] {
        assert_eq!(socket(libc::AF_UNIX, kind, 0), ALLOW);
    }
    assert_eq!(socket(libc::AF_NETLINK, libc::SOCK_RAW, 0), ALLOW);
}

#[test]
fn other_families_kinds_and_protocols_are_refused() {
    let known = [
        libc::AF_UNIX,
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_NETLINK,
    ];
    for family in (0..64).filter(|family| !known.contains(family)) {
        assert_eq!(socket(family, 1, 0), EPERM, "family {family}");
    }
    for family in [libc::AF_INET, libc::AF_INET6] {
        for kind in (0..16).filter(|kind| ![1, 2].contains(kind)) {
            assert_eq!(socket(family, kind, 0), EPERM, "type {kind}");
            assert_eq!(socket(family, kind | libc::SOCK_CLOEXEC, 0), EPERM);
        }
        // UDP's number on a stream, TCP's on datagrams, ping, SCTP, UDP-Lite, MPTCP.
        for (kind, protocol) in [
            (1, 17),
            (2, 6),
            (2, 1),
            (2, 58),
            (1, 132),
            (2, 136),
            (1, 262),
        ] {
            assert_eq!(socket(family, kind, protocol), EPERM, "{kind} {protocol}");
        }
    }
    // Firewall, connector, sock_diag and the one that programs talk to each other with.
    for protocol in [2, 4, 11, 12, 15] {
        assert_eq!(socket(libc::AF_NETLINK, 3, protocol), EPERM, "{protocol}");
    }
}

#[test]
fn the_upper_half_of_a_register_hides_nothing() {
    let packet = (0xdead_u64 << 32) | u64::from(libc::AF_PACKET.cast_unsigned());
    assert_eq!(plain(libc::SYS_socket, &[packet, 3, 0]), EPERM);
    let mapped = (0xdead_u64 << 32) | u64::from(libc::AF_INET.cast_unsigned());
    assert_eq!(plain(libc::SYS_socket, &[mapped, 3, 255]), EPERM);
    assert_eq!(plain(libc::SYS_socket, &[mapped, 1, 0]), ALLOW);
}

#[test]
fn limits_of_other_processes_are_asked_for_and_not_changed() {
    let new = 0x7fff_0000_0000;
    assert_eq!(plain(libc::SYS_prlimit64, &[0, 4, new, 0]), ALLOW);
    assert_eq!(plain(libc::SYS_prlimit64, &[77, 4, 0, new]), ALLOW);
    assert_eq!(plain(libc::SYS_prlimit64, &[77, 4, new, 0]), EPERM);
    assert_eq!(plain(libc::SYS_prlimit64, &[77, 4, 8, 0]), EPERM);
}

#[test]
fn pairs_are_unix_only() {
    assert_eq!(plain(libc::SYS_socketpair, &[1, 1, 0]), ALLOW);
    assert_eq!(plain(libc::SYS_socketpair, &[30, 1, 0]), EPERM);
}

#[test]
fn every_listed_call_is_refused() {
    for call in calls::REFUSED.iter().chain(calls::REFUSED_HERE) {
        assert_eq!(plain(*call, &[]), EPERM, "call {call}");
    }
}

#[test]
fn threads_and_children_are_made_but_no_namespaces() {
    let fork = u64::from(libc::SIGCHLD.cast_unsigned());
    let thread = [libc::CLONE_VM, libc::CLONE_FS, libc::CLONE_FILES]
        .iter()
        .chain(&[libc::CLONE_SIGHAND, libc::CLONE_THREAD, libc::CLONE_SETTLS])
        .fold(0, |all, flag| all | u64::from(flag.cast_unsigned()));
    for flags in [fork, thread] {
        assert_eq!(plain(libc::SYS_clone, &[flags]), ALLOW);
    }
    assert_eq!(plain(libc::SYS_clone3, &[]), ENOSYS);
    for bit in [7, 17, 25, 26, 27, 28, 29, 30] {
        for call in [libc::SYS_clone, libc::SYS_unshare] {
            assert_eq!(plain(call, &[fork | 1 << bit]), EPERM, "bit {bit}");
        }
    }
    assert_eq!(plain(libc::SYS_unshare, &[0x400]), ALLOW);
}

#[test]
fn another_machines_calls_end_the_process() {
    let program = program(false).expect("program");
    assert_eq!(answer(&program, I386, 102, &[]), KILL);
    assert_eq!(answer(&program, I386, 1, &[]), KILL);
    // x32 has this architecture's mark.
    let x32 = 0x4000_0000 | libc::SYS_socket;
    assert_eq!(answer(&program, HERE, x32, &[17, 3, 0]), EPERM);
    assert_eq!(answer(&program, HERE, x32, &[2, 1, 0]), EPERM);
}

#[test]
fn calls_of_the_future_are_not_there() {
    assert_eq!(plain(470, &[]), ENOSYS);
    assert_eq!(plain(libc::SYS_read, &[]), ALLOW);
    assert_eq!(plain(libc::SYS_close_range, &[]), ALLOW);
}

#[test]
fn personalities_and_terminals() {
    assert_eq!(plain(libc::SYS_personality, &[0xffff_ffff]), ALLOW);
    assert_eq!(plain(libc::SYS_personality, &[0]), ALLOW);
    assert_eq!(plain(libc::SYS_personality, &[0x8]), EPERM);
    assert_eq!(plain(libc::SYS_ioctl, &[0, 0x5401]), ALLOW);
    assert_eq!(plain(libc::SYS_ioctl, &[0, 0x5412]), EPERM);
    // The kernel looks at 32 bits of the request.
    assert_eq!(plain(libc::SYS_ioctl, &[0, 0x7_0000_5412]), EPERM);
}

#[test]
fn only_root_is_kept_from_set_user_id_files() {
    let root = program(true).expect("program");
    let created = [0, 0, u64::from(libc::O_CREAT.cast_unsigned()), 0o4755];
    let opened = [0, 0, 0, 0o4755];
    for (call, arguments, of_root) in [
        (libc::SYS_fchmodat, &[0, 0, 0o4755][..], EPERM),
        (libc::SYS_fchmodat, &[0, 0, 0o2755], EPERM),
        (libc::SYS_fchmodat, &[0, 0, 0o1777], ALLOW),
        (libc::SYS_fchmod, &[0, 0o6755], EPERM),
        (452, &[0, 0, 0o4755], EPERM),
        (libc::SYS_openat, &created, EPERM),
        (libc::SYS_openat, &opened, ALLOW),
        (libc::SYS_openat2, &[], ENOSYS),
    ] {
        assert_eq!(
            answer(&root, HERE, call, arguments),
            of_root,
            "{call} {arguments:?}"
        );
        assert_eq!(plain(call, arguments), ALLOW, "{call} {arguments:?}");
    }
}
