"""Each BPF LSM program by itself: a way that is open without it and refused with it alone."""

import os

import catalogue
import host
import layers
from report import note

# The way that shows it, and who tries it.
SHOWN_BY = {
    "socket_create": ("family_af_alg", "agent"),
    "socket_connect": ("inherited_tcp_connect", "agent"),
    "socket_sendmsg": ("inherited_udp_sendto", "agent"),
    "socket_recvmsg": ("inherited_unix_recv", "agent"),
    "socket_listen": ("inherited_tcp_listen", "agent"),
    "unix_stream_connect": ("unix_served", "agent"),
    "unix_may_send": ("inherited_unix_dgram", "agent"),
    "file_open": ("core_pattern", "root"),
    "file_permission": ("move_by_descriptor", "root"),
    "file_receive": ("passed_socket", "agent"),
    "file_ioctl": ("terminal", "root"),
    "file_fcntl": ("file_owner_signal", "agent"),
    "ptrace_access_check": ("pidfd_getfd", "agent"),
    "task_kill": ("signal_outside", "agent"),
    "task_alloc": ("clone_into", "root"),
    "capable": ("host_name", "root"),
    "bpf": ("bpf_map", "root"),
    "sb_mount": ("mount_tmpfs", "root"),
    "move_mount": ("move_mount", "root"),
    "userns_create": ("user_namespace", "agent"),
    "kernel_module_request": ("filesystem_module", "root"),
}
MOUNT = "import ctypes, sys; sys.exit(ctypes.CDLL(None).mount(b'x', b'/mnt', b'tmpfs', 0, None) != 0)"


def each_program(lsm, outside, runs, number, make):
    """`runs` are those without LSM; `make` makes one more run."""
    ways = {way.name: way for way in catalogue.WAYS}
    for hook in sorted(set(lsm.programs) - set(SHOWN_BY) - {"bprm_committed_creds"}):
        note("lsm", f"{hook} alone", "FAIL", "no way shows what it refuses")
    for user in ("root", "agent"):
        number += 1
        tries = make(number, outside, "alone", user, layers.bare)
        for at, (hook, (name, who)) in enumerate(sorted(SHOWN_BY.items())):
            if who == user and hook in lsm.programs:
                alone(lsm, hook, tries, ways[name], 30_000 + at, runs)
        tries.agent.end()
        tries.victim.end()
    launching_ends(lsm)


def alone(lsm, hook, tries, way, port, runs):
    was_open = way.name in runs[layers.HOOKS, tries.user].reaches
    link = lsm.attach(hook)
    try:
        answer = tries.one(way, port)
        reached = tries.reached(way.name)
    finally:
        os.close(link)
    good = was_open and not reached
    detail = f"{way.name} as {tries.user}: {answer['errno']}" if good else \
        f"{way.name} as {tries.user}: open without: {was_open}, reached with: {reached}, {answer}"
    note("lsm", f"{hook} alone", "ok" if good else "FAIL", detail)


def launching_ends(lsm):
    """bprm_committed_creds: what a launcher may do ends with its exec."""
    words = [*layers.bare("root"), "python3", "-c", MOUNT]
    link = lsm.attach("sb_mount")
    before = host.code(*words)
    host.code("umount", "/mnt")
    ends = lsm.attach("bprm_committed_creds")
    after = host.code(*words)
    host.code("umount", "/mnt")
    os.close(link)
    os.close(ends)
    good = before[0] == 0 and after[0] != 0
    note("lsm", "bprm_committed_creds ends a launch", "ok" if good else "FAIL", f"{before} {after}")
