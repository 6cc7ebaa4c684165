use super::*;
use crate::launch::machine::{ALLOW, ENOSYS, EPERM, HERE, KILL, answer};

const HELD: Needs = Needs { programs: false };
const LOOSER: Needs = Needs { programs: true };

fn asked(needs: Needs, call: i64, arguments: &[i32]) -> u32 {
    let words: Vec<u64> = arguments
        .iter()
        .map(|it| it.cast_unsigned().into())
        .collect();
    answer(&program(needs).expect("a filter"), HERE, call, &words)
}

#[test]
fn no_program_of_the_gate_is_taken_off() {
    for command in [1, 2, 3, 4, 7, 15, 16, 21] {
        assert_eq!(asked(HELD, libc::SYS_bpf, &[command]), ALLOW, "{command}");
    }
    // PROG_LOAD, OBJ_PIN, PROG_DETACH, LINK_CREATE, LINK_UPDATE, LINK_DETACH and the rest.
    for command in [0, 5, 6, 8, 9, 13, 14, 17, 18, 28, 29, 30, 34, 36, -1] {
        assert_eq!(asked(HELD, libc::SYS_bpf, &[command]), EPERM, "{command}");
    }
}

#[test]
fn only_network_namespaces_are_entered_and_none_is_made() {
    let net = libc::CLONE_NEWNET;
    assert_eq!(asked(HELD, libc::SYS_setns, &[3, net]), ALLOW);
    for other in [
        0,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWUSER,
        net | libc::CLONE_NEWNS,
    ] {
        assert_eq!(asked(HELD, libc::SYS_setns, &[3, other]), EPERM);
    }
    let thread = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_THREAD | libc::CLONE_SIGHAND;
    assert_eq!(asked(HELD, libc::SYS_clone, &[thread]), ALLOW);
    assert_eq!(asked(HELD, libc::SYS_clone, &[libc::CLONE_NEWUSER]), EPERM);
    assert_eq!(asked(HELD, libc::SYS_clone3, &[]), ENOSYS);
    assert_eq!(asked(HELD, libc::SYS_unshare, &[0]), EPERM);
}

#[test]
fn what_a_bug_would_be_used_for_is_refused() {
    for call in [
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_getfd,
        libc::SYS_kexec_load,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_mount,
        libc::SYS_move_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_reboot,
        libc::SYS_swapon,
        libc::SYS_add_key,
        libc::SYS_userfaultfd,
        libc::SYS_perf_event_open,
        libc::SYS_io_uring_setup,
        libc::SYS_open_by_handle_at,
        libc::SYS_setuid,
    ] {
        assert_eq!(asked(LOOSER, call, &[]), EPERM, "{call}");
    }
    for call in [
        libc::SYS_read,
        libc::SYS_openat,
        libc::SYS_connect,
        libc::SYS_getsockopt,
    ] {
        assert_eq!(asked(HELD, call, &[]), ALLOW, "{call}");
    }
    let other = answer(&program(HELD).expect("a filter"), 0x4000_0003, 1, &[]);
    assert_eq!(other, KILL, "another machine's calls");
}

#[test]
fn programs_are_started_and_code_is_made_only_where_a_credential_needs_it() {
    let both = libc::PROT_WRITE | libc::PROT_EXEC;
    let code = [
        (libc::SYS_execve, vec![]),
        (libc::SYS_execveat, vec![]),
        (libc::SYS_mmap, vec![0, 0, both]),
        (libc::SYS_mprotect, vec![0, 0, libc::PROT_EXEC]),
        (libc::SYS_shmat, vec![1, 0, libc::SHM_EXEC]),
    ];
    for (call, arguments) in code {
        assert_eq!(asked(HELD, call, &arguments), EPERM, "{call}");
        assert_eq!(asked(LOOSER, call, &arguments), ALLOW, "{call}");
    }
    // Libraries that the resolver loads are mapped from their files.
    let read = libc::PROT_READ | libc::PROT_EXEC;
    assert_eq!(asked(HELD, libc::SYS_mmap, &[0, 0, read]), ALLOW);
    assert_eq!(
        asked(HELD, libc::SYS_mprotect, &[0, 0, libc::PROT_READ]),
        ALLOW
    );
}

#[test]
fn sockets_are_those_that_serving_takes() {
    for (family, kind, protocol) in [
        (libc::AF_UNIX, libc::SOCK_DGRAM, 0),
        (libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0),
        (libc::AF_INET6, libc::SOCK_DGRAM, 0),
        (libc::AF_NETLINK, libc::SOCK_DGRAM, 11),
        (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE),
    ] {
        assert_eq!(
            asked(HELD, libc::SYS_socket, &[family, kind, protocol]),
            ALLOW
        );
    }
    for (family, kind, protocol) in [
        (libc::AF_PACKET, libc::SOCK_RAW, 0),
        (libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 1),
        // SOCK_PACKET (packet(7)).
        (libc::AF_INET, 10, 0),
        (libc::AF_INET6, libc::SOCK_SEQPACKET, 0),
        (libc::AF_ALG, 5, 0),
        (libc::AF_VSOCK, libc::SOCK_STREAM, 0),
        (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER),
    ] {
        assert_eq!(
            asked(HELD, libc::SYS_socket, &[family, kind, protocol]),
            EPERM
        );
    }
}
