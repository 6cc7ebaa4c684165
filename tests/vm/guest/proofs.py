"""Each BPF LSM program by itself: a way that is open without it and refused with it alone."""

import fcntl
import os
import struct

import catalogue
import controls
import hidden
import host
import layers
import verdict
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
    "file_ioctl_compat": ("terminal_compat", "root"),
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
# In a directory of the daemon's own, by root in a bare cgroup.
OWN = "/etc/portcullis/secrets"
TRY, OTHER = f"{OWN}/.try", f"{OWN}/.other"
MOUNT = "import ctypes, sys; sys.exit(ctypes.CDLL(None).mount(b'x', b'/mnt', b'tmpfs', 0, None) != 0)"


def each_program(lsm, outside, runs, number, make):
    """`runs` are those without LSM; `make` makes one more run."""
    ways = {way.name: way for way in catalogue.WAYS}
    own = own_files(lsm)
    for hook in sorted(set(lsm.programs) - set(SHOWN_BY) - own - {"bprm_committed_creds"}):
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
    good = was_open and not reached and verdict.is_refusal(answer)
    said = answer["errno"] if answer["errno"] != "ETIMEDOUT" else answer["visitor"]
    detail = f"{way.name} as {tries.user}: {said}" if good else \
        f"{way.name} as {tries.user}: open without: {was_open}, reached with: {reached}, {answer}"
    note("lsm", f"{hook} alone", "ok" if good else "FAIL", detail)


def flags(descriptor):
    """`FS_IOC_SETFLAGS`: no dump."""
    fcntl.ioctl(descriptor, 0x40086602, struct.pack("l", 0x40))


def own_files(lsm):
    """The programs for names and attributes: each on a file in the daemon's own directory."""
    acl = "system.posix_acl_access"
    attempts = {
        "inode_create": (hidden.create, OTHER),
        "inode_link": (os.link, TRY, OTHER),
        "inode_unlink": (os.unlink, TRY),
        "inode_symlink": (os.symlink, "/x", OTHER),
        "inode_mkdir": (os.mkdir, OTHER),
        "inode_rmdir": (os.rmdir, f"{OWN}/.directory"),
        "inode_mknod": (os.mkfifo, OTHER),
        "inode_rename": (os.rename, TRY, OTHER),
        "inode_setattr": (os.chmod, TRY, 0o640),
        "inode_setxattr": (os.setxattr, TRY, "user.x", b"y"),
        "inode_removexattr": (os.removexattr, TRY, "user.y"),
        "inode_set_acl": (hidden.set_acl, TRY),
        "inode_remove_acl": (os.removexattr, TRY, acl),
        "inode_file_setattr": (flags, TRY),
        # Looks at the file alone, not at the directories above: at one that is listed.
        "mmap_file": (hidden.map_inherited, hidden.SECRET),
    }
    session = host.Session()
    bare = f"{session.cgroup()}/bare"
    os.mkdir(bare)
    for hook, (function, *arguments) in sorted(attempts.items()):
        by_itself(lsm, hook, f"{function.__name__} of an own file", (0,),
                  lambda: own_file(bare, function, arguments))
    place = controls.Place(session)
    for hook, function, arguments in controls.attempts(place.cgroup):
        where = "bpffs" if controls.BPFFS in " ".join(map(str, arguments)) else "cgroupfs"
        by_itself(lsm, hook, f"{function.__name__} in {where}", controls.HARMLESS,
                  lambda: place.tried(bare, function, arguments))
    place.close()
    host.until("the end of the attempts", lambda: not open(f"{bare}/cgroup.procs").read())
    os.rmdir(bare)
    session.close()
    return set(attempts)


def by_itself(lsm, hook, what, harmless, tried):
    """A try without any program, then with this one."""
    if hook not in lsm.programs:
        return
    without = tried()
    link = lsm.attach(hook)
    try:
        alone = tried()
    finally:
        os.close(link)
    good = without in harmless and alone in hidden.REFUSED
    detail = f"{os.strerror(alone)}; without: {os.strerror(without)}"
    note("lsm", f"{hook} alone: {what}", "ok" if good else "FAIL", detail)


def own_file(bare, function, arguments):
    """Tried once, on files that are made for it and go afterwards."""
    hidden.create(TRY)
    with open(TRY, "w") as file:
        file.write("some text")
    os.setxattr(TRY, "user.y", b"y")
    if function is os.removexattr:
        hidden.set_acl(TRY)
    os.mkdir(f"{OWN}/.directory")
    descriptor = None
    if function in (flags, hidden.map_inherited):
        descriptor = os.open(arguments[0], os.O_RDONLY)
        arguments = [descriptor]
    try:
        return hidden.attempt(bare, function, *arguments)
    finally:
        if descriptor is not None:
            os.close(descriptor)
        host.run("rm", "-rf", TRY, OTHER, f"{OWN}/.directory")


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
