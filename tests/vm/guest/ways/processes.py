"""Other processes, cgroups and namespaces: somebody outside does it for us, or we go there.

`r["victim"]` is a process outside of the same user: it sends whatever appears in a buffer
(at `r["buffer"]`), and has a connected socket as descriptor `r["victim_fd"]`.
"""

import ctypes
import errno
import os
import signal
import socket as s
import struct

from ways import call, libc, send, syscall, write

CGROUP = "/sys/fs/cgroup"


def slot(r):
    """Where in the buffer this way writes."""
    return r["buffer"] + 64 * r["slot"]


def filled(r):
    return r["token"].encode().ljust(64, b"\0")


def pidfd_getfd(r):
    fd = syscall(438, os.pidfd_open(r["victim"]), r["victim_fd"], 0)
    s.socket(fileno=fd).send(r["token"].encode())


def memory_file(r):
    with open(f"/proc/{r['victim']}/mem", "r+b", buffering=0) as memory:
        memory.seek(slot(r))
        memory.write(filled(r))


def process_vm_writev(r):
    text = ctypes.create_string_buffer(filled(r), 64)
    ours = (ctypes.c_uint64 * 2)(ctypes.addressof(text), 64)
    theirs = (ctypes.c_uint64 * 2)(slot(r), 64)
    syscall(311, r["victim"], ours, 1, theirs, 1, 0)


def ptrace(r):
    attach, detach, poke = 16, 17, 5
    syscall(101, attach, r["victim"], 0, 0)
    try:
        os.waitpid(r["victim"], 0x40000000)
        text = filled(r)
        for at in range(0, 64, 8):
            (word,) = struct.unpack_from("=q", text, at)
            syscall(101, poke, r["victim"], slot(r) + at, word)
    finally:
        libc.syscall(101, detach, r["victim"], 0, 0)


def ptrace_seize(r):
    syscall(101, 0x4206, r["victim"], 0, 0)


def environment(r):
    """Reads a secret of a process outside."""
    with open(f"/proc/{r['victim']}/environ", "rb") as file:
        if b"SECRET=" not in file.read():
            raise OSError(2, "no secret there")


def signal_outside(r):
    os.kill(r["victim"], signal.SIGUSR1)


def pidfd_signal(r):
    signal.pidfd_send_signal(os.pidfd_open(r["victim"]), signal.SIGUSR2)


def file_owner_signal(r):
    """The kernel signals whom F_SETOWN names, when there is input."""
    import fcntl

    ours, theirs = s.socketpair()
    fcntl.fcntl(ours, fcntl.F_SETOWN, r["victim"])
    fcntl.fcntl(ours, fcntl.F_SETSIG, signal.SIGHUP)
    fcntl.fcntl(ours, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    theirs.send(b"x")


def limits(r):
    """Bits in the resource limits of a process outside."""
    import resource

    resource.prlimit(r["victim"], resource.RLIMIT_CORE, (r["port"], r["port"]))


def priority(r):
    os.setpriority(os.PRIO_PROCESS, r["victim"], 7)


# --- out of the cgroup ---------------------------------------------------------------------

def move(procs, r):
    write(procs, str(os.getpid()))
    send(r)


def move_to_root(r):
    move(f"{CGROUP}/cgroup.procs", r)


def move_to_sibling(r):
    move(f"{CGROUP}/{r['sibling']}/cgroup.procs", r)


def move_to_parent(r):
    """The enforced parent, which is of no session."""
    with open("/proc/self/cgroup") as file:
        path = file.read().strip().removeprefix("0::")
    move(f"{CGROUP}{os.path.dirname(path)}/cgroup.procs", r)


def child_cgroup(r):
    with open("/proc/self/cgroup") as file:
        path = CGROUP + file.read().strip().removeprefix("0::") + "/below"
    os.mkdir(path)
    try:
        move(f"{path}/cgroup.procs", r)
    finally:
        os.rmdir(path) if not os.path.exists(f"{path}/cgroup.procs") else None


def move_by_directory(r):
    fd = os.open("cgroup.procs", os.O_WRONLY, dir_fd=r["fds"]["cgroup"])
    os.write(fd, str(os.getpid()).encode())
    send(r)


def move_by_descriptor(r):
    os.write(r["fds"]["procs"], str(os.getpid()).encode())
    send(r)


def move_by_uring(r):
    """The write of the descriptor, by io_uring."""
    import escape

    text = str(os.getpid()).encode()
    where = ctypes.create_string_buffer(text, len(text))
    escape.kept.append(where)
    escape.ring(escape.entry(23, r["fds"]["procs"], ctypes.addressof(where), len(text)))
    send(r)


def clone_into(r):
    """A child that is born in the root cgroup."""
    directory = os.open(CGROUP, os.O_RDONLY)
    arguments = (ctypes.c_uint64 * 11)()
    arguments[0] = 0x2_0000_0000
    arguments[4] = signal.SIGCHLD
    arguments[10] = directory
    pid = syscall(435, arguments, 88)
    if pid == 0:
        try:
            send(r)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def mount(kind, where, source="none"):
    os.makedirs(where, exist_ok=True)
    call(libc.mount(source.encode(), where.encode(), kind.encode(), 0, None), "mount")


def mount_cgroup(r):
    where = f"/tmp/way-{r['run']}-cgroup"
    mount("cgroup2", where)
    try:
        move(f"{where}/cgroup.procs", r)
    finally:
        libc.umount2(where.encode(), 2)


def new_mount(kind):
    """A mount by the calls of 5.2, which is nowhere yet."""
    context = syscall(430, ctypes.create_string_buffer(kind), 0)
    syscall(431, context, 6, 0, 0, 0)
    return syscall(432, context, 0, 0)


def fsmount_cgroup(r):
    directory = new_mount(b"cgroup2")
    fd = os.open("cgroup.procs", os.O_WRONLY, dir_fd=directory)
    os.write(fd, str(os.getpid()).encode())
    send(r)


def move_mount(r):
    directory = new_mount(b"tmpfs")
    where = f"/tmp/way-{r['run']}-tmpfs"
    os.makedirs(where, exist_ok=True)
    empty = ctypes.create_string_buffer(b"")
    syscall(429, directory, empty, -100, ctypes.create_string_buffer(where.encode()), 4)
    libc.umount2(where.encode(), 2)


def mount_tmpfs(r):
    where = f"/tmp/way-{r['run']}-plain"
    mount("tmpfs", where)
    libc.umount2(where.encode(), 2)


def filesystem_module(r):
    """A file system that is not loaded: mount() has the kernel load its module."""
    try:
        mount("overlay", f"/tmp/way-{r['run']}-plain")
    except OSError as error:
        # Known now, and not content with what it was given.
        if error.errno != errno.EINVAL:
            raise


# --- namespaces ----------------------------------------------------------------------------

def join(path):
    fd = os.open(path, os.O_RDONLY)
    call(libc.setns(fd, 0), "setns")


def enter_netns(r):
    """The sink's own network namespace, from which the token need not travel far."""
    join("/run/netns/far")
    send(r)


def enter_init(r):
    for kind in ("cgroup", "ipc", "uts", "net", "mnt"):
        join(f"/proc/1/ns/{kind}")


def pidfd_setns(r):
    call(libc.setns(os.pidfd_open(1), 0x20000), "setns")


def unshare(flag):
    call(libc.unshare(flag), "unshare")


def user_namespace(_):
    unshare(0x10000000)


def user_and_network(_):
    """Root of a network namespace, with raw sockets and devices in it."""
    unshare(0x10000000 | 0x40000000)
    s.socket(s.AF_PACKET, s.SOCK_RAW, s.htons(3)).close()


def mount_namespace(_):
    unshare(0x20000)


def network_namespace(_):
    unshare(0x40000000)


def cgroup_namespace(_):
    unshare(0x2000000)
